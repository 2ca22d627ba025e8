# The cluster's ID and the accessor ID of the token. The anonymous token is
# consul/consul/anonymous.
terraform import consul_k8s_token.vault consul/consul/8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55
