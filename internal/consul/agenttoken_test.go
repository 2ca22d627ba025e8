package consul

import "testing"

func TestCluster_IsAgentToken(t *testing.T) {
	c, other := &Cluster{Namespace: "ns", Name: "consul"}, &Cluster{Namespace: "ns", Name: "other"}
	for accessorID, want := range map[string]bool{
		c.AgentTokenAccessor(0): true, c.AgentTokenAccessor(6): true,
		other.AgentTokenAccessor(0): false, AnonymousAccessorID: false, "": false,
	} {
		if got := c.IsAgentToken(accessorID); got != want {
			t.Errorf("%q: %t", accessorID, got)
		}
	}
}
