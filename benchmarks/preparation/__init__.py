"""From a Parquet log to training histories and slates: Belfry's preparation beside the plain pandas way."""
