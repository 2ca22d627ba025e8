package session

import "sync"

// Claims records what the resources of one run plan to own, such as the name of
// a policy or the key of a Secret, so that no two of them plan to own the same
// thing. The zero value is ready to use. It is safe for concurrent use.
type Claims struct {
	mu       sync.Mutex
	claims   map[string]claim
	clusters map[string]PlannedCluster // by ID
	// namespaces are the ones that planned clusters create.
	namespaces map[string]bool
	// read holds the resources that were refreshed.
	read map[string]bool
}

type claim struct {
	owner, config string
	replaced      bool
}

// NewOwner is the owner of what a new resource claims, one that does not exist yet.
const NewOwner = ""

// Claim claims a thing for an owner, which is the ID of a resource or NewOwner,
// and reports false if another owner has claimed it. The same owner may claim a
// thing twice, but two new resources may not.
//
// A resource that will be replaced is planned twice: as the resource that exists,
// and as a new one with the same configuration. Claim grants such a second claim
// once, and replaces is the ID of the former owner.
func (c *Claims) Claim(thing, owner, config string) (replaces string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	former, taken := c.claims[thing]
	switch {
	case taken && former.owner == owner && owner != NewOwner:
		return "", true
	case taken && owner == NewOwner && former.owner != NewOwner && former.config == config && !former.replaced:
		former.replaced = true
		c.claims[thing] = former
		return former.owner, true
	case taken:
		return "", false
	}
	if c.claims == nil {
		c.claims = map[string]claim{}
	}
	c.claims[thing] = claim{owner: owner, config: config}
	return "", true
}

// Claimed reports whether any resource has claimed a thing.
func (c *Claims) Claimed(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, taken := c.claims[thing]
	return taken
}

// PlannedCluster describes a planned cluster.
type PlannedCluster struct {
	// ACLs reports whether the cluster may have ACLs.
	ACLs bool
	// Version of Consul, or "" if it is not known yet.
	Version string
}

// PlanCluster records that the cluster with an ID, "<namespace>/<name>", is planned to exist.
func (c *Claims) PlanCluster(id string, planned PlannedCluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clusters == nil {
		c.clusters = map[string]PlannedCluster{}
	}
	c.clusters[id] = planned
}

// PlannedCluster returns what was planned for a cluster, and whether the cluster
// has been planned so far. Resources that refer to a cluster are planned after
// it. The order of all others is not known.
func (c *Claims) PlannedCluster(id string) (cluster PlannedCluster, planned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cluster, planned = c.clusters[id]
	return cluster, planned
}

// PlanNamespace records that a planned cluster creates a namespace.
func (c *Claims) PlanNamespace(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.namespaces == nil {
		c.namespaces = map[string]bool{}
	}
	c.namespaces[name] = true
}

// PlannedNamespace reports whether a cluster that has been planned so far creates a namespace.
func (c *Claims) PlannedNamespace(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.namespaces[name]
}

// MarkRead records that a resource was refreshed in this run.
func (c *Claims) MarkRead(thing string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read = map[string]bool{}
	}
	c.read[thing] = true
}

// WasRead reports whether a resource was refreshed in this run. When Terraform applies a change, it plans the change again, in
// another run that refreshes nothing.
func (c *Claims) WasRead(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read[thing]
}
