package server

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// Drift names every field of the rendered objects that is missing or different in the live ones, and every
// field that somebody added and that the provider governs (Claim), such as
//
//	Service consul: spec.ports[name=http].port
//	StatefulSet consul-server: spec.template.spec.hostNetwork (added by kubectl-edit)
//
// What Kubernetes fills in, and the labels and annotations of other managers, do not belong to the provider and
// are not named. The order is that of Set.All, then alphabetical.
func Drift(rendered, live Set) []string {
	var out []string
	for _, want := range rendered.All() {
		got := live.Like(want)
		if got == nil {
			out = append(out, objectKey(want)+": missing")
			continue
		}
		fields, err := ObjectDrift(want, got)
		if err != nil {
			fields = []string{err.Error()}
		}
		for _, f := range fields {
			out = append(out, objectKey(want)+": "+f)
		}
	}
	return out
}

// ObjectDrift is Drift for one existing object, without its name.
func ObjectDrift(want, got Object) ([]string, error) {
	w, err := Fields(want)
	if err != nil {
		return nil, err
	}
	g, err := Fields(got)
	if err != nil {
		return nil, err
	}
	delete(w, "apiVersion")
	var fields []string
	differences("", w, g, &fields)
	fields = append(fields, additions(got.GetObjectKind().GroupVersionKind().Kind, w, g, got.GetManagedFields())...)
	slices.Sort(fields)
	return fields, nil
}

func objectKey(o Object) string {
	return o.GetObjectKind().GroupVersionKind().Kind + " " + o.GetName()
}

// Fields returns an object as what server-side apply sends: only the fields
// that are set, without status.
func Fields(o Object) (map[string]any, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("converting %s: %w", objectKey(o), err)
	}
	delete(m, "status")
	prune(m)
	return m, nil
}

// prune removes what a typed object contains although it was not set: null, and empty structs such as the
// resources or the strategy of a template.
func prune(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			prune(e)
			if m, ok := e.(map[string]any); e == nil || (ok && len(m) == 0 && k != "emptyDir") {
				delete(v, k)
			}
		}
	case []any:
		for _, e := range v {
			prune(e)
		}
	}
}

// differences walks the wanted object and collects the paths at which the live object differs.
func differences(path string, want, got any, out *[]string) {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			*out = append(*out, path)
			return
		}
		for k, w := range want {
			differences(join(path, k), w, g[k], out)
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			*out = append(*out, path)
			return
		}
		key, keyed := mergeKey(want)
		if !keyed {
			if len(want) != len(g) {
				*out = append(*out, path)
				return
			}
			for i := range want {
				differences(fmt.Sprintf("%s[%d]", path, i), want[i], g[i], out)
			}
			return
		}
		for _, w := range want {
			id := w.(map[string]any)[key] //nolint:forcetypeassert // mergeKey found the key in every element
			p := fmt.Sprintf("%s[%s=%v]", path, key, id)
			i := slices.IndexFunc(g, func(e any) bool {
				m, ok := e.(map[string]any)
				return ok && m[key] == id
			})
			if i < 0 {
				*out = append(*out, p)
				continue
			}
			differences(p, w, g[i], out)
		}
	default:
		if !reflect.DeepEqual(want, got) {
			*out = append(*out, path)
		}
	}
}

// mergeKey finds the key by which server-side apply would merge the elements
// of a list: a name that every element has.
func mergeKey(list []any) (string, bool) {
	if len(list) == 0 {
		return "", false
	}
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			return "", false
		}
		if _, ok := m["name"].(string); !ok {
			return "", false
		}
	}
	return "name", true
}

func join(path, k string) string {
	if path == "" {
		return k
	}
	if strings.ContainsAny(k, "./") {
		return path + "[" + k + "]"
	}
	return path + "." + k
}
