key_prefix "vault-unlock/" {
    policy = "write"
},

node_prefix "" {
    policy = "write"
},

service "vault-unlock" {
    policy = "write"
},

agent_prefix "" {
    policy = "write"
},

session_prefix "" {
    policy = "write"
}
 
