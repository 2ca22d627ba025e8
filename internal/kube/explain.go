package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// maxEvents is how many of the newest events an explanation quotes.
const maxEvents = 5

// clockSkew is how far the clocks of this machine and of the API server may differ when events are compared
// with the start of an operation.
const clockSkew = 10 * time.Second

// Awaited names the pods that an operation waits for.
type Awaited struct {
	Namespace string
	// Owner is the name of the object that creates the pods, a StatefulSet or a Job.
	Owner string
	// Selector selects the pods and their volume claims by labels.
	Selector map[string]string
	// Since is when the operation began. Older events are not part of it.
	Since time.Time
}

// awaited is what Kubernetes knows about the pods that an operation waits for.
type awaited struct {
	pods      []corev1.Pod
	claims    []corev1.PersistentVolumeClaim
	events    []corev1.Event
	obstacles []Obstacle
	// unread says what could not be read, and why.
	unread []string
}

// Explain says what keeps pods from being ready: the reason first, then the remedy, and then the state of every
// pod and the newest events since the operation began. It never fails: it names what cannot be read.
func (c *Client) Explain(ctx context.Context, a Awaited) string {
	return readAwaited(ctx, c, a).String()
}

// Blocked is the reason why waiting for pods cannot succeed, with its remedy; "" if it can or may succeed.
func (c *Client) Blocked(ctx context.Context, a Awaited) string {
	if o := blocked(readAwaited(ctx, c, a).obstacles, time.Now()); o != nil {
		return strings.TrimSpace(o.String() + "\n" + o.Remedy)
	}
	return ""
}

func readAwaited(ctx context.Context, c *Client, a Awaited) awaited {
	var r awaited
	opts := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(a.Selector).String()}
	if pods, err := c.CoreV1().Pods(a.Namespace).List(ctx, opts); err != nil {
		r.unread = append(r.unread, fmt.Sprintf("The pods cannot be listed: %s", err))
	} else {
		r.pods = pods.Items
	}
	if claims, err := c.CoreV1().PersistentVolumeClaims(a.Namespace).List(ctx, opts); err != nil {
		r.unread = append(r.unread, fmt.Sprintf("The volume claims cannot be listed: %s", err))
	} else {
		r.claims = slices.DeleteFunc(claims.Items, func(c corev1.PersistentVolumeClaim) bool { return !mounted(c.Name, r.pods) })
	}
	events, err := c.CoreV1().Events(a.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		r.unread = append(r.unread, fmt.Sprintf("The events cannot be listed: %s", err))
	} else {
		r.events = relevantEvents(events.Items, a, r.pods, r.claims)
	}
	r.obstacles = findObstacles(r.pods, r.claims, r.events, a.Owner, a.Since)
	return r
}

// mounted reports whether a pod mounts a claim. A claim that is left of a server that no longer exists does not block an
// operation.
func mounted(claim string, pods []corev1.Pod) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool {
		return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		})
	})
}

// relevantEvents are the events of the current pods and claims, and of the object that creates them, since the
// operation began. An event of an earlier object with the same name is not about this one.
func relevantEvents(events []corev1.Event, a Awaited, pods []corev1.Pod, claims []corev1.PersistentVolumeClaim) []corev1.Event {
	involved := map[types.UID]bool{}
	for i := range pods {
		involved[pods[i].UID] = true
	}
	for i := range claims {
		involved[claims[i].UID] = true
	}
	owners := []string{"StatefulSet", "Job"}
	return slices.DeleteFunc(slices.Clone(events), func(e corev1.Event) bool {
		of := e.InvolvedObject
		owner := of.Name == a.Owner && slices.Contains(owners, of.Kind)
		return (!owner && !involved[of.UID]) || eventTime(e).Before(a.Since.Add(-clockSkew))
	})
}

// String is the text of an explanation.
func (r awaited) String() string {
	var b strings.Builder
	for _, o := range r.obstacles {
		fmt.Fprintf(&b, "%s\n", o)
	}
	var remedies []string
	for _, o := range r.obstacles {
		if o.Remedy != "" && !slices.Contains(remedies, o.Remedy) {
			remedies = append(remedies, o.Remedy)
		}
	}
	if len(remedies) > 0 {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(remedies, "\n"))
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if len(r.pods) == 0 && len(r.unread) == 0 {
		b.WriteString("There are no pods.\n")
	}
	for i := range r.pods {
		fmt.Fprintf(&b, "Pod %s: %s\n", r.pods[i].Name, describePod(&r.pods[i]))
	}
	for i := range r.claims {
		if text := describeClaim(&r.claims[i]); text != "" {
			fmt.Fprintf(&b, "Volume claim %s: %s\n", r.claims[i].Name, text)
		}
	}
	for _, text := range r.unread {
		fmt.Fprintf(&b, "%s\n", text)
	}
	for _, e := range newestWarnings(r.events, b.String()) {
		fmt.Fprintf(
			&b,
			"Event %s, %s %s: %s: %s\n",
			eventTime(e).UTC().Format(time.TimeOnly),
			e.InvolvedObject.Kind,
			e.InvolvedObject.Name,
			e.Reason,
			strings.TrimSpace(e.Message),
		)
	}
	return b.String()
}

// newestWarnings are the newest warnings, one for each reason and object, without those whose message the text
// already quotes.
func newestWarnings(events []corev1.Event, text string) []corev1.Event {
	warnings := slices.DeleteFunc(slices.Clone(events), func(e corev1.Event) bool {
		return e.Type != corev1.EventTypeWarning || strings.Contains(text, strings.TrimSpace(e.Message))
	})
	slices.SortFunc(warnings, func(a, b corev1.Event) int { return cmp.Compare(eventTime(b).UnixNano(), eventTime(a).UnixNano()) })
	seen := map[string]bool{}
	warnings = slices.DeleteFunc(warnings, func(e corev1.Event) bool {
		key := string(e.InvolvedObject.UID) + " " + e.Reason
		defer func() { seen[key] = true }()
		return seen[key]
	})
	return warnings[:min(len(warnings), maxEvents)]
}

// describeClaim says what a volume claim lacks, "" if it lacks nothing.
func describeClaim(c *corev1.PersistentVolumeClaim) string {
	if c.Status.Phase == corev1.ClaimBound {
		return describeResize(c)
	}
	return fmt.Sprintf("%s (%s)", c.Status.Phase, describeClass(c))
}

// describeClass says where the volume of a claim is to come from.
func describeClass(c *corev1.PersistentVolumeClaim) string {
	switch name := c.Spec.StorageClassName; {
	case name == nil:
		return "the default storage class"
	case *name == "":
		return "no storage class: it waits for a volume that a person or another tool creates"
	default:
		return "storage class " + *name
	}
}

// describeResize says how far a bound volume has grown, and what Kubernetes reports about that; "" if it has
// the requested size.
func describeResize(p *corev1.PersistentVolumeClaim) string {
	asked, has := p.Spec.Resources.Requests[corev1.ResourceStorage], p.Status.Capacity[corev1.ResourceStorage]
	if has.Cmp(asked) >= 0 {
		return ""
	}
	parts := []string{fmt.Sprintf("it has %s, and %s is requested", has.String(), asked.String())}
	if s := p.Status.AllocatedResourceStatuses[corev1.ResourceStorage]; s != "" {
		parts = append(parts, string(s))
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s", c.Type, c.Message)))
		}
	}
	if len(parts) == 1 {
		parts = append(parts, "no controller has reported on this: is the resizer of the storage driver running?")
	}
	return strings.Join(parts, ", ")
}

func eventTime(e corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	default:
		return e.CreationTimestamp.Time
	}
}

func describePod(p *corev1.Pod) string {
	parts := []string{string(p.Status.Phase)}
	if p.DeletionTimestamp != nil {
		parts = append(parts, "terminating")
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			continue
		}
		if c.Type == corev1.PodScheduled {
			parts = append(parts, "not scheduled")
		}
		if c.Type == corev1.PodReady && p.Status.Phase == corev1.PodRunning {
			parts = append(parts, "not ready")
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			parts = append(parts, fmt.Sprintf("container %s is waiting: %s", s.Name, w.Reason))
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			parts = append(parts, fmt.Sprintf("container %s ended with %s", s.Name, describeEnd(t)))
		}
		if t := s.LastTerminationState.Terminated; t != nil && s.RestartCount > 0 {
			parts = append(parts, fmt.Sprintf("container %s was restarted %d times and ended with %s", s.Name, s.RestartCount, describeEnd(t)))
		}
	}
	return strings.Join(parts, ", ")
}
