"""An experiment as rows: parquet files, and questions to them. Reports, figures and commands read these rows."""
