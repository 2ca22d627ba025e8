# Namespace, cluster and name of the schedule.
terraform import consul_k8s_backup_schedule.hourly consul/consul/hourly
