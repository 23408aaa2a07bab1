"""Pipeline schedules as data: what each rank of a pipeline runs, and in which order."""
