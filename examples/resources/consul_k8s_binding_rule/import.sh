# The cluster's ID and the ID of the rule: consul acl binding-rule list
terraform import consul_k8s_binding_rule.traefik consul/consul/8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55
