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

  version  = "1.22.7"
  replicas = 3

  # Every request needs a token from now on: see consul_k8s_acl_bootstrap.
  acl = {
    enabled        = true
    default_policy = "deny"
  }

  # Agents encrypt the gossip between them.
  gossip = {
    enabled = true
  }

  # Agents use TLS between each other, and clients use HTTPS.
  tls = {
    enabled = true
  }

  storage = {
    size = "1Gi" # production: 10Gi, the default, or more
    # class = "fast-ssd"

    retention = {
      when_deleted = "Delete" # production: Retain, the default
      when_scaled  = "Delete"
    }
  }

  resources = {
    requests = {
      cpu    = "100m"  # production: 500m, the default, or more
      memory = "256Mi" # production: two to four times the size of the data
    }
  }

  placement = {
    # One server per node, and the servers in different zones if there are zones.
    anti_affinity = "required"
    topology_spread = [{
      topology_key       = "topology.kubernetes.io/zone"
      when_unsatisfiable = "ScheduleAnyway" # production with three zones: DoNotSchedule
    }]
  }

  deletion_protection = false # production: true, the default

  lifecycle {
    # A create that times out is not an error, because an error would make the
    # next apply destroy the servers. This makes the apply fail anyway.
    postcondition {
      condition     = self.ready
      error_message = "Not every server is a healthy voter yet; the warning says why. To continue, apply again."
    }
  }
}

output "consul_address" {
  description = "Where workloads in the same Kubernetes cluster reach Consul, by https."
  value       = consul_k8s_cluster.main.https_address
}

output "consul_ca" {
  description = "What they trust. Those in the same namespace find it in the ConfigMap consul-ca, too."
  value       = consul_k8s_cluster.main.ca_certificate
}
