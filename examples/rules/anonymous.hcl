# The anonymous token: whoever has no token finds nodes, and the servers themselves, by DNS.
# To let everybody find all services, write service_prefix "" instead of service "consul".
# https://developer.hashicorp.com/consul/docs/secure/acl/token/dns

node_prefix "" {
  policy = "read"
}

service "consul" {
  policy = "read"
}
