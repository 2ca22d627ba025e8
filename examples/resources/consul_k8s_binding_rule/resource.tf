terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

resource "consul_k8s_cluster" "main" {
  name             = "consul"
  namespace        = "consul"
  create_namespace = true
  version          = "1.22.7"

  acl = { enabled = true }

  # Small, and easy to remove. In production, omit these four.
  replicas            = 1
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "256Mi" } }
  deletion_protection = false
}

resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}

resource "consul_k8s_auth_method" "pods" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "pods"
  type    = "kubernetes"
}

resource "consul_k8s_policy" "traefik" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "traefik"
  rules   = "key_prefix \"traefik\" { policy = \"read\" }"
}

resource "consul_k8s_role" "traefik" {
  cluster  = consul_k8s_acl_bootstrap.main.cluster
  name     = "traefik"
  policies = [consul_k8s_policy.traefik.name]
}

# Pods that run as the service account traefik of the namespace traefik have
# the rights of the role.
resource "consul_k8s_binding_rule" "traefik" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  auth_method = consul_k8s_auth_method.pods.name
  description = "Traefik reads its configuration"
  selector    = "serviceaccount.namespace == \"traefik\" and serviceaccount.name == \"traefik\""
  bind_type   = "role"
  bind_name   = consul_k8s_role.traefik.name
}

# Every pod of the namespace shop may register the service that is named after
# its service account. The dollar sign is doubled: Consul fills in the name.
resource "consul_k8s_binding_rule" "shop" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  auth_method = consul_k8s_auth_method.pods.name
  selector    = "serviceaccount.namespace == \"shop\" and serviceaccount.name != \"default\""
  bind_type   = "service"
  bind_name   = "shop-$${serviceaccount.name}"
}

# Every pod that logs in may look up services.
resource "consul_k8s_binding_rule" "dns" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  auth_method = consul_k8s_auth_method.pods.name
  bind_type   = "templated-policy"
  bind_name   = "builtin/dns"
}
