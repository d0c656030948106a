"""Asset checks: of contracts, dbt tests, expectations, gaps, ages, drift, performance and reproduction."""
