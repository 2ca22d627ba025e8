package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Takeover is the part of the world that an adoption adds: the former servers. During an adoption, World.Leader
// may be a server of either side, World.Unsettled is about both sides together, and World.Former has peers for
// which neither side has a pod.
type Takeover struct {
	// From is the StatefulSet of the former servers, To that of the new ones.
	From, To string
	// Total is the number of former servers at the beginning, and Replicas the number for which their
	// StatefulSet asks now.
	Total, Replicas int
	// Servers are the former servers by ordinal.
	Servers []Server
	// Services are those that route to the wrong side.
	Services []string
	// Back says that the adoption is being reverted: the servers of the cluster are removed, and the former
	// servers stay.
	Back bool
}

// has reports whether a pod of that name belongs to one of the two StatefulSets.
func (t Takeover) has(pod string) bool {
	dash := strings.LastIndex(pod, "-")
	if dash < 0 {
		return false
	}
	_, err := strconv.Atoi(pod[dash+1:])
	return err == nil && (pod[:dash] == t.From || pod[:dash] == t.To)
}

// AddMembers adds the servers without a pod that agents still list as members, by name, and whether each has failed. One that has failed
// is to be removed. For the others there is only waiting: they leave, or fail.
func (w *World) AddMembers(failed map[string]bool, pods []string) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		switch {
		case slices.Contains(pods, name) || slices.Contains(w.Former, name) || !w.Takeover.has(name):
		case failed[name]:
			w.Former = append(w.Former, name)
		default:
			w.Unsettled = cmp.Or(w.Unsettled, fmt.Sprintf("server %s, which has no pod, is still a member for some agents", name))
		}
	}
}

// nextTakeover decides what to do next in an adoption.
//
//   - Servers are added and retired one at a time, and only while all of both sides
//     are healthy voters with one leader: every acknowledged write is on a majority
//     of them, whichever side they are of.
//   - First all servers that stay are added, then the leadership moves to one of them, then Services are routed
//     to them, and only then are the servers of the other side retired, the highest ordinal first. So no client
//     is ever routed to a server that is about to be removed. Each is removed from the Raft peers before its
//     pod is deleted.
//   - A Raft peer, or a member of the gossip pool, that is left of a retired server, which did not leave by itself, is
//     removed as soon as it counts as failed.
//   - A new server in which Consul does not run, and that is not a peer yet, is restarted if it is outdated,
//     and retired if it is surplus: this does not affect the quorum.
func nextTakeover(w World) Action {
	t := w.Takeover
	if !w.Observed {
		return Action{Verb: Wait, On: "the StatefulSet controller to see the change"}
	}
	for _, s := range w.Servers {
		if s.Outdated && s.Stopped && !s.Peer {
			return s.restart()
		}
	}
	complete := len(w.Servers) == w.Replicas && len(t.Servers) == t.Replicas
	if last := len(w.Servers) - 1; complete && w.Replicas > w.Desired && w.Servers[last].Stopped && !w.Servers[last].Peer {
		return Action{Verb: Retire, On: w.Servers[last].Name}
	}
	if len(w.Former) > 0 && complete {
		return Action{Verb: Remove, On: w.Former[0]}
	}
	if w.Unsettled != "" {
		return Action{Verb: Wait, On: w.Unsettled}
	}
	stay, leave, missing := w.Servers, t.Servers, w.Replicas < w.Desired
	if t.Back {
		stay, leave, missing = t.Servers, w.Servers, t.Replicas < t.Total
	}
	named := func(list []Server) bool {
		return slices.ContainsFunc(list, func(s Server) bool { return s.Name == w.Leader })
	}
	switch {
	case missing && t.Back:
		return Action{Verb: Add, On: podOf(t.From, t.Replicas)}
	case missing:
		return Action{Verb: Add, On: podOf(t.To, w.Replicas)}
	case len(leave) > 0 && !named(stay) && !named(leave):
		return Action{Verb: Wait, On: "a leader"}
	case named(leave):
		return Action{Verb: Transfer, On: furthest(stay)}
	case len(t.Services) > 0:
		return Action{Verb: Switch, On: t.Services[0]}
	case len(leave) > 0:
		last := leave[len(leave)-1]
		return Action{Verb: Retire, On: last.Name, Without: w.without(last)}
	}
	return Action{Verb: Done}
}

// furthest is the server whose log goes furthest.
func furthest(servers []Server) string {
	return slices.MaxFunc(servers, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.LastIndex, b.LastIndex), -strings.Compare(a.Name, b.Name))
	}).Name
}

// podOf is the name of a pod of a StatefulSet.
func podOf(statefulSet string, ordinal int) string { return statefulSet + "-" + strconv.Itoa(ordinal) }

// after is an adoption after an action that succeeds.
func (t Takeover) after(a Action) Takeover {
	t.Servers = slices.Clone(t.Servers)
	switch a.Verb {
	case Add:
		if t.Back {
			t.Servers = append(t.Servers, Server{Name: a.On, Peer: true})
		}
	case Retire:
		t.Servers = slices.DeleteFunc(t.Servers, func(s Server) bool { return s.Name == a.On })
	case Switch:
		t.Services = slices.DeleteFunc(slices.Clone(t.Services), func(s string) bool { return s == a.On })
	default:
	}
	t.Replicas = len(t.Servers)
	return t
}

// previewTakeover is what Run would do from a world on, if every action succeeds.
func previewTakeover(w World) []Action {
	t := *w.Takeover
	t.Replicas = len(t.Servers)
	w.Takeover, w.Unsettled, w.Observed, w.Replicas = &t, "", true, len(w.Servers)
	if w.Leader == "" && len(t.Servers) > 0 {
		w.Leader = t.Servers[0].Name
	}
	steps := []Action{}
	for {
		a := nextTakeover(w)
		if a.Verb == Done || a.Verb == Wait {
			return steps
		}
		steps, w = append(steps, a), w.after(a)
	}
}

// TakeoverSteps is what the adoption of this number of servers will do, as far as this is known before it runs.
// It does not depend on anything that changes during the adoption.
func TakeoverSteps(spec server.Spec, former int) []Action {
	w := World{
		Desired: int(spec.Replicas),
		Takeover: &Takeover{
			From: spec.Adopt.StatefulSet, To: server.StatefulSetName(spec.Name), Total: former, Services: spec.Adopt.Services,
		},
	}
	for i := range former {
		w.Takeover.Servers = append(w.Takeover.Servers, Server{Name: podOf(spec.Adopt.StatefulSet, i), Peer: true})
		w.Leader = podOf(spec.Adopt.StatefulSet, i)
	}
	return previewTakeover(w)
}
