"""Declare a table and a target; get a model that trains, proves itself, serves and watches itself."""
