package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

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

// addMembers adds the servers without a pod that agents still list as members, by name, and whether each has failed. One that has failed
// is to be removed. For the others there is only waiting: they leave, or fail.
func (w *World) addMembers(failed map[string]bool, pods []corev1.Pod) {
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		switch {
		case hasPod(pods, name) || slices.Contains(w.Former, name) || !w.Takeover.has(name):
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
		return Action{Wait: "the StatefulSet controller to see the change"}
	}
	for _, s := range w.Servers {
		if s.Outdated && s.Stopped && !s.Peer {
			return Action{Restart: s.Name}
		}
	}
	complete := len(w.Servers) == w.Replicas && len(t.Servers) == t.Replicas
	if last := len(w.Servers) - 1; complete && w.Replicas > w.Desired && w.Servers[last].Stopped && !w.Servers[last].Peer {
		return Action{Retire: w.Servers[last].Name}
	}
	if len(w.Former) > 0 && complete {
		return Action{Remove: w.Former[0]}
	}
	if w.Unsettled != "" {
		return Action{Wait: w.Unsettled}
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
		return Action{Add: podOf(t.From, t.Replicas)}
	case missing:
		return Action{Add: podOf(t.To, w.Replicas)}
	case len(leave) > 0 && !named(stay) && !named(leave):
		return Action{Wait: "a leader"}
	case named(leave):
		return Action{Transfer: furthest(stay)}
	case len(t.Services) > 0:
		return Action{Switch: t.Services[0]}
	case len(leave) > 0:
		last := leave[len(leave)-1]
		return Action{Retire: last.Name, Without: w.without(last)}
	}
	return Action{Done: true}
}

// furthest is the server whose log goes furthest.
func furthest(servers []Server) string {
	return slices.MaxFunc(servers, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.LastIndex, b.LastIndex), -strings.Compare(a.Name, b.Name))
	}).Name
}

// podOf is the name of a pod of a StatefulSet.
func podOf(statefulSet string, ordinal int) string { return statefulSet + "-" + strconv.Itoa(ordinal) }

// previewTakeover is what Run would do from a world on, if every action succeeds.
func previewTakeover(w World) []Action {
	t := *w.Takeover
	t.Servers, t.Services = slices.Clone(t.Servers), slices.Clone(t.Services)
	w.Servers, w.Takeover, w.Unsettled, w.Observed = slices.Clone(w.Servers), &t, "", true
	w.Replicas, t.Replicas = len(w.Servers), len(t.Servers)
	if w.Leader == "" && len(t.Servers) > 0 {
		w.Leader = t.Servers[0].Name
	}
	steps := []Action{}
	for {
		a := nextTakeover(w)
		added := Server{Name: a.Add, Peer: true}
		switch {
		case a.Done, a.Wait != "":
			return steps
		case a.Restart != "":
			i := slices.IndexFunc(w.Servers, func(s Server) bool { return s.Name == a.Restart })
			w.Servers[i] = Server{Name: a.Restart, Peer: true}
		case a.Add != "" && t.Back:
			t.Servers, t.Replicas = append(t.Servers, added), t.Replicas+1
		case a.Add != "":
			w.Servers, w.Replicas = append(w.Servers, added), w.Replicas+1
		case a.Transfer != "":
			w.Leader = a.Transfer
		case a.Switch != "":
			t.Services = t.Services[1:]
		case a.Remove != "":
			w.Former = slices.Clone(w.Former[1:])
		case a.Retire == t.last():
			t.Servers, t.Replicas = t.Servers[:t.Replicas-1], t.Replicas-1
		case a.Retire != "":
			w.Servers, w.Replicas = w.Servers[:w.Replicas-1], w.Replicas-1
		}
		steps = append(steps, a)
	}
}

// last is the former server that is retired first.
func (t Takeover) last() string {
	if len(t.Servers) == 0 {
		return ""
	}
	return t.Servers[len(t.Servers)-1].Name
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
