package localcluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status is the state of the cluster.
type Status struct {
	// Complete reports whether an Up with this recipe succeeded.
	Complete bool
	// Kubeconfig is the path of the kubeconfig of the administrator, which may not exist.
	Kubeconfig string
	Processes  []ProcessStatus
	Nodes      []NodeStatus
}

// ProcessStatus is one process of the cluster.
type ProcessStatus struct {
	Name string
	// PID is 0 if the process was never started.
	PID   int
	Alive bool
}

// NodeStatus is one node.
type NodeStatus struct {
	Name string
	// State is "Ready" or the reason why the node is not ready, according to the API server.
	State string
	// Away is "stopped" or "cut off" if that was done on purpose.
	Away string
	// Images are the names of the images of the node.
	Images []string
}

// Status reads the state. It changes nothing and takes no lock, so during an Up or a Down it may return any
// intermediate state.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	status := Status{Kubeconfig: c.Kubeconfig()}
	made, err := os.ReadFile(c.path("recipe"))
	status.Complete = err == nil && string(made) == c.recipe()
	for _, name := range c.processNames() {
		s := ProcessStatus{Name: name}
		if p, err := c.readProcess(name); err == nil {
			s.PID, s.Alive = p.PID, p.alive()
		}
		status.Processes = append(status.Processes, s)
	}
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		return status, nil
	}
	states := map[string]string{}
	client, err := c.client()
	if err != nil {
		return status, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		states[""] = "unknown: " + err.Error()
	} else {
		for _, n := range list.Items {
			states[n.Name] = readiness(n)
		}
	}
	away := c.nodesAway()
	for _, n := range nodes() {
		s := NodeStatus{Name: n.name, State: states[n.name]}
		if s.State == "" {
			s.State = states[""]
		}
		if a, ok := away[n.name]; ok {
			s.Away = "cut off"
			if a.Stopped {
				s.Away = "stopped"
			}
		}
		s.Images, _ = c.images(ctx, n) // a node that is down has no usable images
		status.Nodes = append(status.Nodes, s)
	}
	return status, nil
}

// Write writes the status as text.
func (s Status) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := "not up, or of another version"
	if s.Complete {
		state = "complete"
	}
	fmt.Fprintf(t, "cluster\t%s\n", state)
	for _, p := range s.Processes {
		switch {
		case p.Alive:
			fmt.Fprintf(t, "%s\tup\tpid %d\n", p.Name, p.PID)
		case p.PID != 0:
			fmt.Fprintf(t, "%s\tdown\twas pid %d\n", p.Name, p.PID)
		default:
			fmt.Fprintf(t, "%s\tdown\n", p.Name)
		}
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\n", n.Name, n.State, n.Away)
		for _, i := range n.Images {
			fmt.Fprintf(t, "  image\t%s\n", i)
		}
	}
	fmt.Fprintf(t, "kubeconfig\t%s\n", s.Kubeconfig)
	return t.Flush()
}
