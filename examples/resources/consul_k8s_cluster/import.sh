# The ID is <namespace>/<name>.
terraform import consul_k8s_cluster.main consul/consul
