package server

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Kubernetes records in metadata.managedFields who set which field: the last manager that updated it, and every
// manager that applies it. What Kubernetes itself fills in has no owner, and what an admission webhook adds has
// none either. Server-side apply removes a field only if the applier is its only owner
// (kubernetes.io/docs/reference/using-api/server-side-apply).

// governed reports whether the provider decides on a field, no matter which client set it. It does not decide on metadata,
// including that of the pod template: labels and annotations that others add are theirs. It also does not
// decide on the rest of a Service, where controllers of load balancers write, or on a ServiceAccount, to which
// controllers add Secrets.
func governed(kind string, p fieldpath.Path) bool {
	at := func(i int) string {
		if i >= len(p) || p[i].FieldName == nil {
			return ""
		}
		return *p[i].FieldName
	}
	switch kind {
	case "ConfigMap":
		return at(0) == "data" || at(0) == "binaryData"
	case "Service":
		return at(0) == "spec" && slices.Contains([]string{"type", "ports", "selector", "loadBalancerSourceRanges"}, at(1))
	case "PodDisruptionBudget":
		return at(0) == "spec"
	case "StatefulSet":
		return at(0) == "spec" && (at(1) != "template" || at(2) != "metadata")
	default:
		return false
	}
}

// Claim decides who is to own the fields of an object of a kind: the provider's applies own what is governed
// and what its own updates set, and no other manager does. The next apply then removes what it does not set.
// Claim returns the managed fields to store, nil if nothing changes.
func Claim(kind string, entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
	own := metav1.ManagedFieldsEntry{Manager: ManagedBy, Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1"}
	claimed := fieldpath.NewSet()
	for _, e := range entries {
		if isOwn(e) {
			own, claimed = e, fieldSet(e)
		}
	}
	changed := false
	var out []metav1.ManagedFieldsEntry
	for _, e := range entries {
		switch {
		case isOwn(e):
			continue
		case e.Subresource != "", own.APIVersion != "" && own.APIVersion != e.APIVersion:
			out = append(out, e)
			continue
		}
		all, taken := fieldSet(e), fieldpath.NewSet()
		all.Iterate(func(p fieldpath.Path) {
			if e.Manager == ManagedBy || governed(kind, p) {
				taken.Insert(p.Copy())
			}
		})
		if taken.Empty() {
			out = append(out, e)
			continue
		}
		changed = true
		own.APIVersion = e.APIVersion
		claimed = claimed.Union(taken)
		if left := all.Difference(taken); !left.Empty() {
			e, err := withFields(e, left)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	if !changed {
		return nil, nil
	}
	own, err := withFields(own, claimed)
	if err != nil {
		return nil, err
	}
	return append(out, own), nil
}

// isOwn finds the entry of the provider's applies.
func isOwn(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == ManagedBy && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
}

// fieldSet is what a manager owns; nothing if that cannot be read.
func fieldSet(e metav1.ManagedFieldsEntry) *fieldpath.Set {
	s := fieldpath.NewSet()
	if e.FieldsV1 == nil || s.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())) != nil {
		return fieldpath.NewSet()
	}
	return s
}

func withFields(e metav1.ManagedFieldsEntry, s *fieldpath.Set) (metav1.ManagedFieldsEntry, error) {
	raw, err := s.ToJSON()
	if err != nil {
		return e, fmt.Errorf("encoding the fields of manager %s: %w", e.Manager, err)
	}
	e.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return e, nil
}

// owns reports whether the provider set a field. An object without managed fields was rendered and not read:
// the provider owns all of it.
func owns(entries []metav1.ManagedFieldsEntry, path ...string) bool {
	p := make(fieldpath.Path, 0, len(path))
	for _, name := range path {
		p = append(p, fieldpath.FieldNameElement(name))
	}
	return len(entries) == 0 || slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == ManagedBy && fieldSet(e).Has(p)
	})
}

// ownsNodePort reports whether the provider chose the port on every node that belongs to a port of a Service.
func ownsNodePort(entries []metav1.ManagedFieldsEntry, port corev1.ServicePort) bool {
	p := fieldpath.MakePathOrDie(
		"spec",
		"ports",
		fieldpath.KeyByFields("port", int64(port.Port), "protocol", string(port.Protocol)),
		"nodePort",
	)
	return len(entries) == 0 || slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == ManagedBy && fieldSet(e).Has(p)
	})
}

// ownedEntries returns the entries of m, labels or annotations at a path of an object, that the provider set or
// that are declared.
func ownedEntries(entries []metav1.ManagedFieldsEntry, m, declared map[string]string, path ...string) map[string]string {
	var out map[string]string
	for k, v := range m {
		if _, ok := declared[k]; !ok && !owns(entries, append(slices.Clone(path), k)...) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}

// additions names the governed fields of a live object that somebody set and that the rendered object does not
// have, with the managers that set them.
func additions(kind string, rendered, live map[string]any, entries []metav1.ManagedFieldsEntry) []string {
	by := map[string][]string{}
	for _, e := range entries {
		if e.Subresource != "" {
			continue
		}
		fieldSet(e).Leaves().Iterate(func(p fieldpath.Path) {
			if !governed(kind, p) {
				return
			}
			for _, at := range excess(p, rendered, live) {
				if !slices.Contains(by[at], e.Manager) {
					by[at] = append(by[at], e.Manager)
				}
			}
		})
	}
	var out []string
	for at, managers := range by {
		managers = slices.DeleteFunc(managers, func(m string) bool { return m == ManagedBy })
		if len(managers) > 0 {
			at += " (added by " + strings.Join(managers, ", ") + ")"
		}
		out = append(out, at)
	}
	return out
}

// excess follows the path of an owned field and names its first part that is missing in the wanted object.
// Below a field that is owned as a whole, it names surplus keys of maps.
func excess(p fieldpath.Path, want, got any) []string {
	at := ""
	for _, e := range p {
		var ok bool
		if got, ok = child(got, e); !ok {
			return nil // removed since
		}
		at = joinElement(at, e, got)
		w, ok := child(want, e)
		if !ok && e.Key != nil {
			w, ok = namesake(want, got) // its key was changed: that shows as a difference
		}
		if !ok {
			if e.FieldName != nil && isFilledIn(*e.FieldName, got) {
				return nil
			}
			return []string{at}
		}
		want = w
	}
	return excessKeys(at, want, got)
}

func excessKeys(at string, want, got any) []string {
	w, ok := want.(map[string]any)
	g, isMap := got.(map[string]any)
	if !ok || !isMap {
		return nil
	}
	var out []string
	for k, v := range g {
		if wanted, ok := w[k]; ok {
			out = append(out, excessKeys(join(at, k), wanted, v)...)
		} else if !isFilledIn(k, v) {
			out = append(out, join(at, k))
		}
	}
	return out
}

// child finds the value that an element of a path selects.
func child(v any, e fieldpath.PathElement) (any, bool) {
	switch {
	case e.FieldName != nil:
		m, _ := v.(map[string]any)
		c, ok := m[*e.FieldName]
		return c, ok
	case e.Key != nil:
		return element(v, func(m map[string]any) bool {
			return !slices.ContainsFunc(*e.Key, func(f value.Field) bool { return fmt.Sprint(m[f.Name]) != fmt.Sprint(f.Value.Unstructured()) })
		})
	default:
		return nil, false
	}
}

// namesake finds the element of a list that has the name of another.
func namesake(list, of any) (any, bool) {
	m, _ := of.(map[string]any)
	name, ok := m["name"].(string)
	if !ok {
		return nil, false
	}
	return element(list, func(m map[string]any) bool { return m["name"] == name })
}

func element(list any, match func(map[string]any) bool) (any, bool) {
	l, _ := list.([]any)
	for _, v := range l {
		if m, ok := v.(map[string]any); ok && match(m) {
			return m, true
		}
	}
	return nil, false
}

// joinElement extends the text of a path by an element that selects v.
func joinElement(path string, e fieldpath.PathElement, v any) string {
	if e.FieldName != nil {
		return join(path, *e.FieldName)
	}
	if m, ok := v.(map[string]any); ok {
		if name, ok := m["name"].(string); ok {
			return path + "[name=" + name + "]"
		}
	}
	var keys []string
	for _, f := range *e.Key {
		keys = append(keys, fmt.Sprintf("%s=%v", f.Name, f.Value.Unstructured()))
	}
	return path + "[" + strings.Join(keys, ",") + "]"
}

// filledIn are the fields that Kubernetes fills in by default, nil for any value. A client that writes a whole
// object, such as a restore of the namespace from a backup, owns them, although nobody meant to set them.
var filledIn = map[string]any{
	"apiVersion":               "v1", // of a fieldRef
	"defaultMode":              int64(0o644),
	"dnsPolicy":                "ClusterFirst",
	"nodePort":                 nil, // allocated
	"restartPolicy":            "Always",
	"revisionHistoryLimit":     int64(10),
	"schedulerName":            "default-scheduler",
	"serviceAccount":           nil, // an alias of serviceAccountName, which wins
	"terminationMessagePath":   "/dev/termination-log",
	"terminationMessagePolicy": "File",
}

func isFilledIn(name string, v any) bool {
	value, ok := filledIn[name]
	return ok && (value == nil || value == v)
}
