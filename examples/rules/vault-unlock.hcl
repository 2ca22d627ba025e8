# A second Vault in the same Consul, which unseals the first: path = "vault-unlock/", service = "vault-unlock".
# https://developer.hashicorp.com/vault/docs/configuration/storage/consul#acls

key_prefix "vault-unlock/" {
  policy = "write"
}

service "vault-unlock" {
  policy = "write"
}

agent_prefix "" {
  policy = "read"
}

session_prefix "" {
  policy = "write"
}
