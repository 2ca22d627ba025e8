package lifecycle

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// State is a cluster as it is.
type State struct {
	Spec server.Spec
	// Elected says that the first leader is recorded. If the record is lost, the Spec counts as
	// established without it.
	Elected bool
	// Drift names fields that are not as the Spec renders them (server.Drift), and Pending
	// those of its entries that are the rest of a change that was applied.
	Drift, Pending []string
	// RunningVersion is the oldest version that a server runs.
	RunningVersion string
	// Started are the versions that Consul was started with on the servers' volumes,
	// oldest first: those that run, and those that may have written data and crashed.
	Started []string
	// Outdated are the pods that do not run what the StatefulSet says, unless others
	// restart them.
	Outdated []string
	// Terminating says that the namespace is being deleted, and everything in it.
	Terminating bool
}

// Read reads the cluster as it is. It only asks Kubernetes, so it works while Consul does not. What
// cannot be read is taken from known, which was declared last. It returns server.ErrNoStatefulSet
// if there is no cluster. A cluster of which only the StatefulSet is missing exists.
func (d Deployment) Read(ctx context.Context, known server.Spec) (State, error) {
	live, err := ReadObjects(ctx, d.Kube, d.Consul.Namespace, d.Consul.Name)
	if err != nil {
		return State{}, err
	}
	if orphaned, err := (objects{d}).isOrphaned(ctx, live, known.Name); err != nil {
		return State{}, err
	} else if orphaned {
		return observer{d}.readOrphaned(ctx, known, live)
	}
	s := State{Elected: live.IsEstablished()}
	if s.Spec, err = server.Parse(live, known); err != nil {
		return State{}, err
	}
	s.Terminating = isTerminating(live.Namespace)
	var template bool
	s.Drift, template = drift(s.Spec, known, live)
	pending := func(text string) { s.Drift, s.Pending = append(s.Drift, text), append(s.Pending, text) }
	if live.IsTakeover() { // all of it is applied when the adoption resumes
		s.Drift, template = nil, false
		pending("the adoption is not complete, will continue")
	}
	if s.Spec.Origin.Pending() {
		pending("Backup: not restored yet, will be restored")
	}
	if s.Spec.Resizing {
		pending("StatefulSet " + live.StatefulSet.Name + ": the change of the volumes is not complete, will continue")
	}
	if s.Spec.Gossip.Stage.HalfWay() {
		pending("Gossip: half-way between plain text and encryption, will continue")
	}
	if s.Spec.TLS.Stage.HalfWay() {
		pending("TLS: half-way between plain text and encryption, will continue")
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return State{}, err
	}
	for i := range pods {
		if Outdated(live.StatefulSet, &pods[i]) && s.Spec.Update.Strategy != server.OnDelete {
			s.Outdated = append(s.Outdated, pods[i].Name)
			why, isPending := whyOutdated(live.StatefulSet, &pods[i], template)
			if text := "Pod " + pods[i].Name + ": " + why; isPending {
				pending(text)
			} else {
				s.Drift = append(s.Drift, text)
			}
		}
	}
	s.RunningVersion, s.Started = versions(pods)
	return s, nil
}

// versions returns the oldest version that runs in the pods, "" if none does, and
// those that Consul was started with in them.
func versions(pods []corev1.Pod) (running string, started []string) {
	var all []string
	for i := range pods {
		v := pods[i].Labels[server.LabelVersion]
		if !stopped(&pods[i]) && server.HasAskedContainer(&pods[i]) {
			all = append(all, v)
		}
		if hasStarted(&pods[i]) {
			started = append(started, v)
		}
	}
	if all = server.SortVersions(all); len(all) > 0 {
		running = all[0]
	}
	return running, server.SortVersions(started)
}

// drift names the fields that are not as the Spec that was read renders them. It leaves out fields
// that are as the known Spec renders them: one attribute governs several fields, and somebody may
// have changed the one from which it is read. template reports whether somebody edited the pod
// template: the template is neither as it was declared last, nor as an interrupted apply wrote it.
func drift(spec, known server.Spec, live server.Set) (fields []string, template bool) {
	fields = server.Drift(server.Objects(spec), live)
	if known.Name == "" { // an import
		return fields, false
	}
	known.Record = spec.Record
	declared := server.Drift(server.Objects(known), live)
	ofTemplate := func(f string) bool {
		return strings.HasPrefix(f, "StatefulSet "+server.StatefulSetName(known.Name)+": spec.template.")
	}
	applied := server.TemplateHash(spec) == live.StatefulSet.Spec.Template.Annotations[server.AnnotationTemplateHash] &&
		!slices.ContainsFunc(fields, ofTemplate)
	fields = slices.DeleteFunc(fields, func(f string) bool { return !slices.Contains(declared, f) })
	return fields, !applied && slices.ContainsFunc(declared, ofTemplate)
}
