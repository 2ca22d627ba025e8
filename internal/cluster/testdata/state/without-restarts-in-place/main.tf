terraform {
  required_providers {
    consul = { source = "registry.terraform.io/consul-k8s/consul-k8s" }
  }
}

# Every attribute that changes a rendered object, but for what needs a Secret.
resource "consul_k8s_cluster" "test" {
  name             = "consul"
  namespace        = "an-earlier-commit"
  create_namespace = true
  version          = "1.22.7"
  replicas         = 1
  datacenter       = "dc2"
  domain           = "example"
  ui               = false

  labels          = { team = "platform" }
  annotations     = { "example.com/owner" = "platform" }
  pod_labels      = { tier = "backend" }
  pod_annotations = { "example.com/scrape" = "true" }

  storage     = { size = "1Gi", retention = { when_deleted = "Delete", when_scaled = "Delete" } }
  resources   = { requests = { cpu = "20m", memory = "64Mi" }, limits = { memory = "512Mi" } }
  placement   = { anti_affinity = "preferred", tolerations = [{ key = "example.com/dedicated", operator = "Exists" }] }
  performance = { raft_multiplier = 2, leave_drain_time = "6s" }
  telemetry   = { prometheus_retention_time = "2m" }
  autopilot   = { server_stabilization_time = "2s" }
  service     = { type = "NodePort", annotations = { "example.com/lb" = "internal" } }
  update      = { server_timeout = "5m" }

  extra_config = jsonencode({ log_json = true, dns_config = { only_passing = true } })

  deletion_protection = false
}
