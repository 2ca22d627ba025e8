# The cluster's ID and the role's name or ID.
terraform import consul_k8s_role.web consul/consul/web
