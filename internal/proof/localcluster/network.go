package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// bridge is the link on the host that connects the nodes.
const bridge = "lk0"

// netnsDir is where iproute2 keeps named network namespaces.
const netnsDir = "/run/netns"

func (n node) netnsPath() string { return netnsDir + "/" + n.netns() }

// createNetwork creates the bridge and the namespaces of the nodes, and the routes from the API server, which runs on
// the host, to pods.
func (c *Cluster) createNetwork(ctx context.Context) error {
	if _, err := os.Stat("/proc/sys/net/bridge"); errors.Is(err, os.ErrNotExist) {
		// Without it, a reply between two pods of the same node bypasses the translation of Service addresses.
		if _, err := run(ctx, "modprobe", "br_netfilter"); err != nil {
			return fmt.Errorf("the kernel lacks the module br_netfilter: %w", err)
		}
	}
	commands := [][]string{
		{"ip", "link", "add", bridge, "type", "bridge"},
		{"ip", "address", "add", fmt.Sprintf("%s/%d", bridgeAddress, bridgePrefix), "dev", bridge},
		{"ip", "link", "set", bridge, "up"},
		// The host does not translate Service addresses. Without this route, packets to them would leave the machine.
		{"ip", "route", "replace", "blackhole", serviceRange},
	}
	for _, n := range nodes() {
		ip := func(args ...string) []string { return append([]string{"ip", "-n", n.netns()}, args...) }
		commands = append(commands,
			[]string{"ip", "netns", "add", n.netns()},
			[]string{"ip", "link", "add", n.netns(), "type", "veth", "peer", "name", "eth0", "netns", n.netns()},
			[]string{"ip", "link", "set", n.netns(), "master", bridge, "up"},
			ip("address", "add", fmt.Sprintf("%s/%d", n.address(), bridgePrefix), "dev", "eth0"),
			ip("link", "set", "eth0", "up"),
			ip("link", "set", "lo", "up"),
			ip("route", "add", "default", "via", bridgeAddress),
			[]string{"ip", "route", "add", n.pods(), "via", n.address()},
			[]string{"nsenter", "--net=" + n.netnsPath(), "sh", "-c",
				"echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"},
		)
		for _, other := range nodes() {
			if other != n {
				commands = append(commands, ip("route", "add", other.pods(), "via", other.address()))
			}
		}
	}
	for _, command := range commands {
		if _, err := run(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	return allowBridged(ctx)
}

// bridgedRule matches traffic between nodes.
func bridgedRule() []string { return []string{"FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"} }

// allowBridged allows traffic between nodes on a machine whose firewall drops forwarded packets, as with Docker,
// which also makes the firewall see bridged packets. On other machines, the firewall is not changed.
func allowBridged(ctx context.Context) error {
	rules, err := run(ctx, "iptables-save", "-t", "filter")
	if err != nil || !strings.Contains(rules, ":FORWARD DROP") {
		return err
	}
	_, err = run(ctx, "iptables", append([]string{"-w", "-I"}, bridgedRule()...)...)
	return err
}

// removeNetwork removes everything that createNetwork may have created, of which any part may be missing.
func (c *Cluster) removeNetwork(ctx context.Context) error {
	var errs []error
	links, err := run(ctx, "ip", "-o", "link")
	errs = append(errs, err)
	hasLink := func(name string) bool {
		return strings.Contains(links, ": "+name+":") || strings.Contains(links, ": "+name+"@")
	}
	for _, n := range nodes() {
		if hasLink(n.netns()) {
			_, err := run(ctx, "ip", "link", "delete", n.netns())
			errs = append(errs, err)
		}
		if _, err := os.Stat(n.netnsPath()); err == nil {
			_, err := run(ctx, "ip", "netns", "delete", n.netns())
			errs = append(errs, err)
		}
	}
	if hasLink(bridge) {
		_, err := run(ctx, "ip", "link", "delete", bridge)
		errs = append(errs, err)
	}
	routes, err := run(ctx, "ip", "route", "show", "type", "blackhole", serviceRange)
	errs = append(errs, err)
	if strings.TrimSpace(routes) != "" {
		_, err := run(ctx, "ip", "route", "delete", "blackhole", serviceRange)
		errs = append(errs, err)
	}
	if _, err := exec.LookPath("iptables-save"); err == nil {
		rules, err := run(ctx, "iptables-save", "-t", "filter")
		errs = append(errs, err)
		if strings.Contains(rules, "-A "+strings.Join(bridgedRule(), " ")) {
			_, err := run(ctx, "iptables", append([]string{"-w", "-D"}, bridgedRule()...)...)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
