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

# Pods of this Kubernetes cluster log in with their service account.
resource "consul_k8s_auth_method" "pods" {
  cluster       = consul_k8s_acl_bootstrap.main.cluster
  name          = "pods"
  type          = "kubernetes"
  max_token_ttl = "8h"
}

# Pods of another one: its API server, and a service account there that may
# review tokens and read ServiceAccounts.
#
# variable "edge_token" {
#   type      = string
#   ephemeral = true
# }
#
# resource "consul_k8s_auth_method" "edge" {
#   cluster = consul_k8s_acl_bootstrap.main.cluster
#   name    = "edge"
#   type    = "kubernetes"
#   kubernetes = {
#     host                           = "https://edge.example.com:6443"
#     ca_cert                        = file("edge-ca.pem")
#     service_account_jwt_wo         = var.edge_token
#     service_account_jwt_wo_version = "1"
#   }
# }

# Clients with a token that was signed with this key, such as a job in CI.
resource "consul_k8s_auth_method" "ci" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "ci"
  type    = "jwt"
  config_json = jsonencode({
    JWTValidationPubKeys = [<<-PEM
      -----BEGIN PUBLIC KEY-----
      MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVkl7rqMnfWC5n1HX1lKlIy5PnOe6
      X6nIYsDUJsy8XIp23eTdcatwgU2Q0uP13CjY/heUXNauVpQJwlhYiJTBaw==
      -----END PUBLIC KEY-----
    PEM
    ]
    JWTSupportedAlgs = ["ES256"]
    BoundAudiences   = ["consul"]
    ClaimMappings    = { repository = "repository" }
  })
}
