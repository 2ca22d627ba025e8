# The ID is that of the cluster, <namespace>/<name>.
terraform import consul_k8s_acl_bootstrap.main consul/consul
