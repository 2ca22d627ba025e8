terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

locals {
  # Each of these Vaults has its keys and its service.
  vaults = ["vault", "vault-unlock"]
}

# Rules of an ACL policy: the attribute rules of a consul_k8s_policy, for one.
output "rules" {
  value = provider::consul::policy_rules({
    key_prefix     = { for name in local.vaults : "${name}/" => "write" }
    service        = { for name in local.vaults : name => { policy = "write", intentions = "read" } }
    agent_prefix   = { "" = "read" }
    session_prefix = { "" = "write" }
  })
}
