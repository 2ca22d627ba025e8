node_prefix "" {
  policy = "read"
},

service "consul" {
  policy = "read"
}
