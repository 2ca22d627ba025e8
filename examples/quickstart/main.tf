# Three Consul servers with ACLs that deny by default, encrypted gossip and
# connections, and the management token in a Kubernetes Secret.

terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

# KUBE_CONFIG_PATH names the Kubernetes cluster; see the provider's
# documentation for the alternatives.
provider "consul" {}

resource "consul_k8s_cluster" "main" {
  name             = "consul"
  namespace        = "consul"
  create_namespace = true
  version          = "1.22.7"
  replicas         = 3

  acl    = { enabled = true, default_policy = "deny" }
  gossip = { enabled = true }
  tls    = { enabled = true }

  # Small enough for a laptop. In production, omit these three: the defaults
  # are 10Gi, half a core and 1Gi, volumes that outlive the cluster, and a
  # cluster that refuses to be destroyed.
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "128Mi" } }
  deletion_protection = false

  lifecycle {
    postcondition {
      condition     = self.ready
      error_message = "The servers are not all voters yet; the warning above says why. To continue, apply again."
    }
  }
}

resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}

data "consul_k8s_members" "main" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
}

output "servers" {
  value = [for s in data.consul_k8s_members.main.servers : "${s.name}  ${s.address}  ${s.version}  ${s.leader ? "leader" : s.voter ? "voter" : "non-voter"}"]
}

output "token_secret" {
  value = consul_k8s_acl_bootstrap.main.secret
}

output "https_address" {
  value = consul_k8s_cluster.main.https_address
}
