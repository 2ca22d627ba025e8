# Client agents: each registers its node, and answers what it is asked of services.
# One token for each agent, with a node identity instead of these rules, grants less.
# https://developer.hashicorp.com/consul/docs/secure/acl/token/agent

node_prefix "" {
  policy = "write"
}

service_prefix "" {
  policy = "read"
}
