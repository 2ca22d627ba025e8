key_prefix "traefik" {
  policy = "write"
},

session_prefix "" {
  policy = "write"
}
