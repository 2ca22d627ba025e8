# Traefik with its dynamic configuration in Consul: it reads and watches the keys below rootKey.
# Whoever writes that configuration needs "write", Traefik does not.
# https://doc.traefik.io/traefik/providers/consul/

key_prefix "traefik" {
  policy = "read"
}
