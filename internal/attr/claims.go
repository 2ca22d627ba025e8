package attr

import "sync"

// Claims records what the resources of one run have planned to own, such as the
// name of a policy or the key of a Secret, so that two of them are not planned
// to own the same. The zero value is ready. It is safe for concurrent use.
type Claims struct {
	mu       sync.Mutex
	claims   map[string]claim
	clusters map[string]PlannedCluster // by ID
	// namespaces are those that clusters are planned to make.
	namespaces map[string]bool
	// read are the resources that were refreshed.
	read map[string]bool
}

type claim struct {
	owner, config string
	replaced      bool
}

// NewOwner is the owner of what a resource that does not exist yet claims.
const NewOwner = ""

// Claim claims a thing for an owner, the ID of a resource or NewOwner, and
// reports false if another one has claimed it. The same owner may claim twice;
// two new resources may not.
//
// A resource that is to be replaced is planned twice: as what it is, and as a new
// one of the same configuration. Once, such a claim is granted too, and replaces
// is the ID of the former owner.
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

// Claimed reports whether somebody has claimed a thing.
func (c *Claims) Claimed(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, taken := c.claims[thing]
	return taken
}

// PlannedCluster is what is planned of a cluster.
type PlannedCluster struct {
	// ACLs says whether it may have ACLs.
	ACLs bool
	// Version of Consul, "" where it is not known yet.
	Version string
}

// PlanCluster records that a cluster, "<namespace>/<name>", is planned to be there.
func (c *Claims) PlanCluster(id string, planned PlannedCluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clusters == nil {
		c.clusters = map[string]PlannedCluster{}
	}
	c.clusters[id] = planned
}

// PlannedCluster reports whether a cluster was planned so far, and as what.
// What refers to a cluster is planned after it; of anything else the order
// is not known.
func (c *Claims) PlannedCluster(id string) (cluster PlannedCluster, planned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cluster, planned = c.clusters[id]
	return cluster, planned
}

// PlanNamespace records that a namespace is planned to be made with a cluster.
func (c *Claims) PlanNamespace(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.namespaces == nil {
		c.namespaces = map[string]bool{}
	}
	c.namespaces[name] = true
}

// PlannedNamespace reports whether a cluster that was planned so far makes a namespace.
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

// WasRead reports whether a resource was refreshed in this run. Terraform plans each change once more when it applies it, in
// another run, which refreshes nothing.
func (c *Claims) WasRead(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read[thing]
}
