# Vault with its storage in Consul: the data, the service that it registers, and the lock of the active one.
# https://developer.hashicorp.com/vault/docs/configuration/storage/consul#acls

key_prefix "vault/" {
  policy = "write"
}

service "vault" {
  policy = "write"
}

agent_prefix "" {
  policy = "read"
}

session_prefix "" {
  policy = "write"
}
