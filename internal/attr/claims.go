package attr

import "sync"

// Claims records what the resources of one run have planned to own, such as the
// name of a policy or the key of a Secret, so that two of them are not planned
// to own the same. The zero value is ready. It is safe for concurrent use.
type Claims struct {
	mu     sync.Mutex
	owners map[string]string
}

// NewOwner is the owner of what a resource that does not exist yet claims.
const NewOwner = ""

// Claim claims a thing for an owner, the ID of a resource or NewOwner, and
// reports false if another one has claimed it. The same owner may claim twice;
// two new resources may not.
func (c *Claims) Claim(thing, owner string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	other, taken := c.owners[thing]
	if taken && (other != owner || owner == NewOwner) {
		return false
	}
	if c.owners == nil {
		c.owners = map[string]string{}
	}
	c.owners[thing] = owner
	return true
}

// Claimed reports whether somebody has claimed a thing.
func (c *Claims) Claimed(thing string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, taken := c.owners[thing]
	return taken
}
