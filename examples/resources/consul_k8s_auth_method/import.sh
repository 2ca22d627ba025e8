# The cluster's ID and the auth method's name.
terraform import consul_k8s_auth_method.pods consul/consul/pods
