# The cluster's ID and the policy's name or ID.
terraform import consul_k8s_policy.vault consul/consul/vault
