"""Connections of an event log that are idle are closed. Not here: those of a server, see tests/postgres."""

import threading

import sqlalchemy as db

from ml_assets.dagster_storage.idle_connections import IdleConnections


def test_a_connection_that_was_in_use_when_idle_ones_were_closed_is_closed_when_it_is_returned() -> None:
    engine = db.create_engine("sqlite://", poolclass=db.pool.QueuePool, pool_size=1)
    IdleConnections(engine, seconds=0.05)
    opened, disposed = [], threading.Event()
    db.event.listen(engine, "connect", lambda *_: opened.append("opened"))
    db.event.listen(engine, "close", lambda *_: opened.append("closed"))
    db.event.listen(engine, "engine_disposed", lambda _: disposed.set())

    engine.connect().close()
    with engine.connect():
        assert disposed.wait(60)

    assert ["opened", "closed"] == opened
    disposed.clear()
    engine.connect().close()
    assert disposed.wait(60)
    engine.dispose()
    assert ["opened", "closed"] * 2 == opened
