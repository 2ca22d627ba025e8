package localcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// absence records that a process cut off or stopped a node on purpose.
type absence struct {
	By process `json:"by"`
	// Stopped is false for a node that is only cut off.
	Stopped bool `json:"stopped"`
}

func (c *Cluster) absencePath(node string) string { return c.path("away", node+".json") }

// nodesAway returns the nodes that are cut off or stopped on purpose.
func (c *Cluster) nodesAway() map[string]absence {
	away := map[string]absence{}
	for _, name := range Nodes() {
		data, err := os.ReadFile(c.absencePath(name))
		if err != nil {
			continue
		}
		var a absence
		// A record that cannot be read counts as that of a process that is gone: the node is brought back.
		_ = json.Unmarshal(data, &a)
		away[name] = a
	}
	return away
}

func (c *Cluster) recordAbsence(n node, stopped bool) error {
	self, err := identify("", os.Getpid())
	if err != nil {
		return fmt.Errorf("identifying this process: %w", err)
	}
	data, err := json.Marshal(absence{By: self, Stopped: stopped})
	if err != nil {
		return err
	}
	return writeFile(c.absencePath(n.name), data, 0o644)
}

// repairNodes brings back the nodes that a process left cut off or stopped when it ended. Those of a running process
// are part of its test.
func (c *Cluster) repairNodes(ctx context.Context) error {
	for name, a := range c.nodesAway() {
		if a.By.alive() {
			c.progress.line(fmt.Sprintf("%s is away on behalf of process %d", name, a.By.PID))
			continue
		}
		repair := c.heal
		if a.Stopped {
			repair = c.startNode
		}
		n, err := nodeByName(name)
		if err != nil {
			return err
		}
		if err := c.progress.step(ctx, "bring back "+name, func(ctx context.Context) error { return repair(ctx, n) }); err != nil {
			return err
		}
	}
	return nil
}

// CutNode cuts a node off from the API server and from the other nodes, like a failed switch: its pods keep running
// and can only reach each other. Another process may end that by [Cluster.HealNode].
func (c *Cluster) CutNode(ctx context.Context, name string) error {
	return c.changeNode(ctx, name, func(ctx context.Context, n node) error {
		if c.nodesAway()[name].Stopped {
			return fmt.Errorf("%s is stopped", name)
		}
		if err := c.recordAbsence(n, false); err != nil {
			return err
		}
		_, err := run(ctx, "ip", "link", "set", n.netns(), "down")
		return err
	})
}

// HealNode ends the effect of [Cluster.CutNode] and waits until the node is Ready. It does nothing to a node that is
// not cut off.
func (c *Cluster) HealNode(ctx context.Context, name string) error {
	return c.changeNode(ctx, name, c.heal)
}

func (c *Cluster) heal(ctx context.Context, n node) error {
	if c.nodesAway()[n.name].Stopped {
		return fmt.Errorf("%s is stopped, not cut off", n.name)
	}
	if _, err := run(ctx, "ip", "link", "set", n.netns(), "up"); err != nil {
		return err
	}
	if err := c.waitNodesReady(ctx, c.allRun, n.name); err != nil {
		return err
	}
	return c.forgetAbsence(n)
}

// StopNode ends all processes of a node at once, like a power cut: kubelet, kube-proxy, containerd, and everything in
// its pods. The disk of the node, which has its volumes, is kept. The API server notices after the usual grace
// period.
func (c *Cluster) StopNode(ctx context.Context, name string) error {
	return c.changeNode(ctx, name, func(ctx context.Context, n node) error {
		if err := c.recordAbsence(n, true); err != nil {
			return err
		}
		// With its power, a node loses its network at once. Processes die one after the other here, and none may
		// notify another node.
		if _, err := run(ctx, "ip", "link", "set", n.netns(), "down"); err != nil {
			return err
		}
		return c.killNode(ctx, n)
	})
}

// killNode ends all processes of one node.
func (c *Cluster) killNode(ctx context.Context, n node) error {
	namespace, err := os.Stat(n.netnsPath())
	if err != nil {
		return fmt.Errorf("finding the network namespace of %s: %w", n.name, err)
	}
	return killUntilGone(ctx, "the processes of "+n.name, func() ([]process, error) {
		found, err := n.podProcesses()
		if err != nil {
			return nil, err
		}
		marked, err := c.processesMarked(func([]byte) bool { return true })
		if err != nil {
			return nil, err
		}
		for _, p := range marked {
			// Daemons and shims stay in the namespace in which they were started.
			if own, err := os.Stat(filepath.Join("/proc", fmt.Sprint(p.PID), "ns/net")); err == nil && os.SameFile(own, namespace) {
				found = append(found, p)
			}
		}
		return found, nil
	})
}

// StartNode brings back a node that [Cluster.StopNode] stopped and waits until it is Ready. It does nothing to a node that is not stopped.
func (c *Cluster) StartNode(ctx context.Context, name string) error {
	return c.changeNode(ctx, name, c.startNode)
}

func (c *Cluster) startNode(ctx context.Context, n node) error {
	if !c.nodesAway()[n.name].Stopped {
		return nil
	}
	// A start that failed half-way may be repeated.
	if err := c.killNode(ctx, n); err != nil {
		return err
	}
	// After a boot, there are no mounts and no sandboxes, but all files.
	if err := unmountBelow(c.path(n.name)); err != nil {
		return err
	}
	if err := os.RemoveAll(c.path(n.name, "containerd", "state")); err != nil {
		return err
	}
	if err := n.createCgroups(); err != nil {
		return err
	}
	if _, err := run(ctx, "ip", "link", "set", n.netns(), "up"); err != nil {
		return err
	}
	if err := c.startRuntime(ctx, n); err != nil {
		return err
	}
	before, err := c.heartbeat(ctx, n)
	if err != nil {
		return err
	}
	if err := c.startKubelet(ctx, n); err != nil {
		return err
	}
	// Within the grace period, the node still counts as Ready, so only a new heartbeat shows that it is back.
	if err := waitFor(ctx, n.name+" to report", addonsLimit, func(ctx context.Context) error {
		now, err := c.heartbeat(ctx, n)
		if err == nil && now == before {
			err = errors.New("its status is the one from before")
		}
		return err
	}); err != nil {
		return err
	}
	if err := c.waitNodesReady(ctx, c.allRun, n.name); err != nil {
		return err
	}
	return c.forgetAbsence(n)
}

// heartbeat returns when the API server last saw the kubelet of a node start, and when it last reported.
func (c *Cluster) heartbeat(ctx context.Context, n node) (string, error) {
	client, err := c.client()
	if err != nil {
		return "", err
	}
	object, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", n.name, err)
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.LastHeartbeatTime.String(), nil
		}
	}
	return "", fmt.Errorf("%s has no Ready condition", n.name)
}

func (c *Cluster) forgetAbsence(n node) error {
	if err := os.Remove(c.absencePath(n.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the absence of %s: %w", n.name, err)
	}
	return nil
}

// changeNode calls f for the named node of a running cluster, while no other process changes the cluster.
func (c *Cluster) changeNode(ctx context.Context, name string, f func(context.Context, node) error) error {
	n, err := nodeByName(name)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(c.path("recipe")); err != nil {
		return fmt.Errorf("the cluster is not up: %w", err)
	}
	return f(ctx, n)
}
