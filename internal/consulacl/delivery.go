package consulacl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/template"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/util/retry"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lock"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ComponentToken is the component label of Secrets with delivered tokens.
const ComponentToken = "acl-token"

// Target is a key of a Kubernetes Secret to which a token's secret ID is delivered.
type Target struct {
	Namespace, Name, Key string
	// Template of the value, in text/template, with {{.SecretID}} and
	// {{.AccessorID}}; "" means the secret ID alone.
	Template string
	// Type of the Secret, "" for Opaque. Kubernetes does not let it be changed.
	Type string
	// Labels of the Secret, besides the provider's own.
	Labels map[string]string
	// Declared is what the owner of the token stores with it, as JSON, because neither Consul nor the value contains it;
	// "" is nothing.
	Declared string
}

// String is "<namespace>/<name>:<key>".
func (t Target) String() string { return t.Namespace + "/" + t.Name + ":" + t.Key }

// Render makes the value. An error never has the secret ID in it.
func (t Target) Render(accessorID, secretID string) ([]byte, error) {
	if t.Template == "" {
		return []byte(secretID), nil
	}
	parsed, err := template.New("template").Option("missingkey=error").Parse(t.Template)
	if err != nil {
		return nil, err
	}
	type ids struct{ AccessorID, SecretID string }
	var out bytes.Buffer
	if parsed.Execute(&out, ids{accessorID, secretID}) != nil {
		// The error may quote a value or a part of it: report the error for a made-up value instead.
		if err := parsed.Execute(io.Discard, ids{accessorID, "00000000-1111-2222-3333-444444444444"}); err != nil {
			return nil, err
		}
		return nil, errors.New("the template fails for this secret ID")
	}
	return out.Bytes(), nil
}

// annotation records, for each key of a Secret, the accessor ID of the token in
// it.
func (t Target) annotation() string { return server.ManagedBy + "/accessor-id." + t.Key }

// annotationDeclared records, for each key, what Target.Declared says.
func (t Target) annotationDeclared() string { return server.ManagedBy + "/declared." + t.Key }

// manager is the field manager of one key: keys of one Secret belong to
// different tokens, and none takes another's away.
func (t Target) manager() string { return server.ManagedBy + "/" + t.Key }

// Same reports whether two targets ask for the same value in the same key of the same Secret, however that is written.
func (t Target) Same(o Target) bool {
	if t.String() != o.String() || orOpaque(t.Type) != orOpaque(o.Type) || !maps.Equal(t.Labels, o.Labels) {
		return false
	}
	if t.Template == o.Template {
		return true
	}
	// Two samples distinguish a template that names an ID from one that contains it.
	for _, sample := range []string{"00000000-1111-2222-3333-44444444444", "55555555-6666-7777-8888-99999999999"} {
		x, errX := t.Render(sample+"0", sample+"1")
		y, errY := o.Render(sample+"0", sample+"1")
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// Holder says who holds the key of a Secret.
type Holder struct {
	// Foreign says that the Secret, or its key, does not belong to this provider.
	Foreign bool
	// AccessorID of the token in the key, and the ID of its Cluster; "" if the key
	// is free.
	AccessorID, Cluster string
}

// Deliveries writes secret IDs into Kubernetes Secrets. It lists the Secrets of
// a namespace once a run. It is safe for concurrent use.
type Deliveries struct {
	kube    *kube.Client
	cluster string

	flight     singleflight.Group
	writing    lock.Mutex // tokens of one apply may share Secrets
	mu         sync.Mutex
	namespaces map[string]*namespace // those that were asked for
}

// namespace is what is known of a namespace.
type namespace struct {
	// missing says that it does not exist.
	missing bool
	// forbidden says that its Secrets may not be listed.
	forbidden bool
	// tokens are the Secrets of delivered tokens, and others the names of all
	// other Secrets, when they were listed.
	tokens map[string]*corev1.Secret
	others map[string]bool
}

func newDeliveries(c *consul.Cluster) *Deliveries {
	return &Deliveries{kube: c.Kube, cluster: c.ID(), namespaces: map[string]*namespace{}}
}

// TokenSecretLabels are the labels that the provider sets on the Secrets of delivered tokens.
func TokenSecretLabels() map[string]string {
	return map[string]string{server.LabelManagedBy: server.ManagedBy, server.LabelComponent: ComponentToken}
}

// annotationCluster records, for each key, whose token it is.
func (t Target) annotationCluster() string { return server.ManagedBy + "/cluster." + t.Key }

// Delivered reports whether a target holds a token as it should. If the secret ID may not be known
// ("<hidden>"), only its record is checked.
func (d *Deliveries) Delivered(ctx context.Context, t Target, accessorID, secretID string) (bool, error) {
	s, err := d.find(ctx, t)
	if err != nil || s == nil {
		return false, err
	}
	if s.Annotations[t.annotation()] != accessorID || string(s.Type) != orOpaque(t.Type) {
		return false, nil
	}
	for k, v := range t.Labels {
		if s.Labels[k] != v {
			return false, nil
		}
	}
	if secretID == "" || secretID == HiddenSecretID {
		return len(s.Data[t.Key]) > 0, nil
	}
	value, err := t.Render(accessorID, secretID)
	return err == nil && bytes.Equal(s.Data[t.Key], value), err
}

// HiddenSecretID is what Consul shows instead of a secret ID to a token that may only read ACLs.
const HiddenSecretID = "<hidden>"

func orOpaque(secretType string) string {
	if secretType == "" {
		return string(corev1.SecretTypeOpaque)
	}
	return secretType
}

// Holder says who holds a target.
func (d *Deliveries) Holder(ctx context.Context, t Target) (Holder, error) {
	s, err := d.find(ctx, t)
	if err != nil || s != nil {
		return holder(s, t), err
	}
	n, err := d.look(ctx, t.Namespace)
	if err == nil && (n.forbidden || n.others[t.Name]) {
		s, err = d.get(ctx, t)
	}
	return holder(s, t), err
}

func holder(s *corev1.Secret, t Target) Holder {
	if s == nil {
		return Holder{}
	}
	record := s.Annotations[t.annotation()]
	if _, has := s.Data[t.Key]; record == "" && (has || !isTokenSecret(s)) {
		return Holder{Foreign: true} // the record alone proves ownership, if a label was lost
	}
	return Holder{AccessorID: record, Cluster: s.Annotations[t.annotationCluster()]}
}

func isTokenSecret(s *corev1.Secret) bool {
	return labels.SelectorFromSet(TokenSecretLabels()).Matches(labels.Set(s.Labels))
}

// NamespaceMissing reports whether a namespace is known not to exist, or to be terminating.
func (d *Deliveries) NamespaceMissing(ctx context.Context, name string) bool {
	n, err := d.look(ctx, name)
	return err == nil && n.missing
}

// NamespaceGone is NamespaceMissing as of now: another resource may have made the namespace meanwhile.
func (d *Deliveries) NamespaceGone(ctx context.Context, name string) bool {
	n, err := d.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	return apierrors.IsNotFound(err) || (err == nil && n.DeletionTimestamp != nil)
}

// NamespaceError says that the namespace of a target does not exist, or is being deleted.
type NamespaceError struct{ Target Target }

// Error implements error.
func (e *NamespaceError) Error() string {
	return fmt.Sprintf("the namespace %s of the Secret %s does not exist, or is being deleted", e.Target.Namespace, e.Target.Name)
}

// TakenError says that a key of a Secret is already in use.
type TakenError struct {
	Target Target
	Holder Holder
}

// Error implements error.
func (e *TakenError) Error() string {
	if e.Holder.Foreign {
		return fmt.Sprintf(
			"Secret %s/%s, or its key %s, exists, and this provider did not create it",
			e.Target.Namespace,
			e.Target.Name,
			e.Target.Key,
		)
	}
	return fmt.Sprintf(
		"the key %s of Secret %s/%s holds the token %s of cluster %s",
		e.Target.Key,
		e.Target.Namespace,
		e.Target.Name,
		e.Holder.AccessorID,
		e.Holder.Cluster,
	)
}

// Deliver writes a token into a target. The key must be free, or hold the same token, or the previous token that
// this one replaces; otherwise a *TakenError is returned. If the namespace does not exist, a *NamespaceError is
// returned.
func (d *Deliveries) Deliver(ctx context.Context, t Target, accessorID, secretID, previous string) error {
	value, err := t.Render(accessorID, secretID)
	if err != nil {
		return fmt.Errorf("rendering the template for Secret %s/%s: %w", t.Namespace, t.Name, err)
	}
	return d.change(ctx, t, func(s *corev1.Secret) error {
		if h := holder(s, t); h.Foreign || (h.AccessorID != "" && h.AccessorID != accessorID && h.AccessorID != previous) {
			return &TakenError{Target: t, Holder: h}
		}
		if s != nil && string(s.Type) != orOpaque(t.Type) {
			if others(s, t) {
				return fmt.Errorf(
					"the type of Secret %s/%s is %s and cannot be changed to %s while it has keys of others",
					t.Namespace,
					t.Name,
					s.Type,
					orOpaque(t.Type),
				)
			}
			if err := d.deleteSecret(ctx, s); err != nil {
				return err
			}
			s = nil
		}
		return d.write(ctx, t, s, accessorID, value)
	})
}

// write applies the key of a Secret, which is s as it was read, or nil if it does not exist.
func (d *Deliveries) write(ctx context.Context, t Target, s *corev1.Secret, accessorID string, value []byte) error {
	all := maps.Clone(t.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, TokenSecretLabels())
	apply := applycorev1.Secret(t.Name, t.Namespace).WithType(corev1.SecretType(orOpaque(t.Type))).WithLabels(all).
		WithAnnotations(map[string]string{t.annotation(): accessorID, t.annotationCluster(): d.cluster}).
		WithData(map[string][]byte{t.Key: value})
	if t.Declared != "" {
		apply.WithAnnotations(map[string]string{t.annotationDeclared(): t.Declared})
	}
	if s != nil {
		apply.WithResourceVersion(s.ResourceVersion)
	}
	return d.apply(ctx, t, apply)
}

// Relabel gives a Secret that holds a token the labels of the target, and removes those that the target had before.
func (d *Deliveries) Relabel(ctx context.Context, t Target, accessorID string) error {
	return d.change(ctx, t, func(s *corev1.Secret) error {
		if h := holder(s, t); s == nil || h.Foreign || h.AccessorID != accessorID {
			return nil
		}
		return d.write(ctx, t, s, accessorID, s.Data[t.Key])
	})
}

// Withdraw removes a token from a target, and deletes the Secret if nothing else is in it. A key that holds
// another token is left alone. It is not an error if the key, the Secret, or its namespace no longer exists.
func (d *Deliveries) Withdraw(ctx context.Context, t Target, accessorID string) error {
	return d.change(ctx, t, func(s *corev1.Secret) error {
		if h := holder(s, t); s == nil || h.Foreign || h.AccessorID != accessorID {
			return nil
		}
		if !others(s, t) {
			return d.deleteSecret(ctx, s)
		}
		// What this field manager no longer applies is removed.
		return d.apply(ctx, t, applycorev1.Secret(t.Name, t.Namespace).WithType(s.Type).WithResourceVersion(s.ResourceVersion))
	})
}

// others reports whether a Secret has other keys than the target's.
func others(s *corev1.Secret, t Target) bool {
	for key := range s.Data {
		if key != t.Key {
			return true
		}
	}
	return false
}

// change reads a Secret and changes it, one change at a time, and tries again if another client changed it
// meanwhile.
func (d *Deliveries) change(ctx context.Context, t Target, do func(*corev1.Secret) error) error {
	unlock, err := d.writing.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		s, err := d.get(ctx, t)
		if err != nil {
			return err
		}
		return do(s)
	})
}

func (d *Deliveries) apply(ctx context.Context, t Target, secret *applycorev1.SecretApplyConfiguration) error {
	written, err := d.kube.CoreV1().Secrets(t.Namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: t.manager(), Force: true})
	if isNamespaceMissing(err) || (apierrors.IsForbidden(err) && d.NamespaceGone(ctx, t.Namespace)) {
		return &NamespaceError{Target: t}
	}
	if err != nil {
		return fmt.Errorf("writing key %s of Secret %s/%s: %w", t.Key, t.Namespace, t.Name, err)
	}
	d.put(t.Namespace, t.Name, written)
	return nil
}

// isNamespaceMissing reports whether Kubernetes refused an object because its namespace does not exist, or is being
// deleted.
func isNamespaceMissing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) ||
		(apierrors.IsNotFound(err) && details != nil && details.Kind == "namespaces")
}

// deleteSecret deletes a Secret as it was read.
func (d *Deliveries) deleteSecret(ctx context.Context, s *corev1.Secret) error {
	err := d.kube.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion},
	})
	if _, err := kube.Found(err); err != nil {
		return fmt.Errorf("deleting Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	d.put(s.Namespace, s.Name, nil)
	return nil
}

// get reads a Secret; nil if it does not exist. With a namespace, its Roles are deleted too, and with them the right to
// read its Secrets.
func (d *Deliveries) get(ctx context.Context, t Target) (*corev1.Secret, error) {
	s, err := d.kube.CoreV1().Secrets(t.Namespace).Get(ctx, t.Name, metav1.GetOptions{})
	if apierrors.IsForbidden(err) && d.NamespaceGone(ctx, t.Namespace) {
		return nil, nil //nolint:nilnil // as documented
	}
	found, err := kube.Found(err)
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", t.Namespace, t.Name, err)
	}
	if !found {
		return nil, nil //nolint:nilnil // as documented
	}
	return s, nil
}

// find finds a Secret of delivered tokens in the list of its namespace; nil if it does not exist. If listing is
// forbidden, it reads only this Secret.
func (d *Deliveries) find(ctx context.Context, t Target) (*corev1.Secret, error) {
	n, err := d.look(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	if n.forbidden && !n.missing {
		s, err := d.get(ctx, t)
		if err != nil || s == nil || !isTokenSecret(s) {
			return nil, err
		}
		return s, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return n.tokens[t.Name], nil
}

// look reads the Secrets of a namespace, once.
func (d *Deliveries) look(ctx context.Context, name string) (*namespace, error) {
	d.mu.Lock()
	n, known := d.namespaces[name]
	d.mu.Unlock()
	if known {
		return n, nil
	}
	v, err, _ := d.flight.Do(name, func() (any, error) {
		n, err := d.read(ctx, name)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.namespaces[name] = n
		return n, nil
	})
	n, _ = v.(*namespace)
	return n, err
}

func (d *Deliveries) read(ctx context.Context, name string) (*namespace, error) {
	n := &namespace{tokens: map[string]*corev1.Secret{}, others: map[string]bool{}}
	list, err := d.kube.CoreV1().Secrets(
		name,
	).List(
		ctx,
		metav1.ListOptions{LabelSelector: labels.SelectorFromSet(TokenSecretLabels()).String()},
	)
	var names []string
	if err == nil {
		names, err = d.kube.SecretNames(ctx, name)
	}
	switch {
	case apierrors.IsForbidden(err):
		n.forbidden = true
	case err != nil:
		return nil, fmt.Errorf("listing the Secrets of tokens in namespace %s: %w", name, err)
	default:
		for _, s := range names {
			n.others[s] = true
		}
		for i := range list.Items {
			n.tokens[list.Items[i].Name] = &list.Items[i]
			delete(n.others, list.Items[i].Name)
		}
	}
	if len(names) == 0 { // listing in a namespace that does not exist is not an error
		n.missing = d.NamespaceGone(ctx, name)
	}
	return n, nil
}

// put updates the list with what was written.
func (d *Deliveries) put(namespace, name string, s *corev1.Secret) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.namespaces[namespace]
	if n == nil || n.forbidden {
		return
	}
	delete(n.tokens, name)
	if s != nil {
		n.tokens[name] = s
	}
}

// Found is where a token was found.
type Found struct {
	Target
	// Hidden says that the template of the value is not known, because Consul does not show the secret ID.
	Hidden bool
}

// Find finds the keys that hold a token of the cluster, according to the records of Deliver: in all namespaces,
// or, if those may not be listed, in that of the cluster only. all is false in the second case.
func (d *Deliveries) Find(ctx context.Context, accessorID, secretID string) (found []Found, all bool, err error) {
	options := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(TokenSecretLabels()).String()}
	list, err := d.kube.CoreV1().Secrets(metav1.NamespaceAll).List(ctx, options)
	all = !apierrors.IsForbidden(err)
	if !all {
		namespace, _, _ := strings.Cut(d.cluster, "/")
		list, err = d.kube.CoreV1().Secrets(namespace).List(ctx, options)
	}
	if err != nil {
		return nil, all, fmt.Errorf("looking for the Secrets with the token %s: %w", accessorID, err)
	}
	for i := range list.Items {
		s := &list.Items[i]
		for key, value := range s.Data {
			t := Target{Namespace: s.Namespace, Name: s.Name, Key: key}
			if s.Annotations[t.annotation()] != accessorID || s.Annotations[t.annotationCluster()] != d.cluster {
				continue
			}
			if s.Type != corev1.SecretTypeOpaque {
				t.Type = string(s.Type)
			}
			t.Labels, t.Declared = labelsBy(s, t.manager()), s.Annotations[t.annotationDeclared()]
			hidden := secretID == "" || secretID == HiddenSecretID
			if !hidden {
				t.Template = templateOf(string(value), accessorID, secretID)
			}
			found = append(found, Found{Target: t, Hidden: hidden})
		}
	}
	slices.SortFunc(found, func(a, b Found) int { return strings.Compare(a.String(), b.String()) })
	return found, all, nil
}

// templateOf is a template that renders a value for a token, "" for the secret ID alone. A value that is not
// derived from the token, for example because somebody edited it, has no template: it shows as not delivered.
func templateOf(value, accessorID, secretID string) string {
	if value == secretID || !strings.Contains(value, secretID) {
		return ""
	}
	text := strings.ReplaceAll(value, "{{", `{{"{{"}}`)
	return strings.NewReplacer(secretID, "{{.SecretID}}", accessorID, "{{.AccessorID}}").Replace(text)
}

// labelsBy are the labels of a Secret that a field manager has set, except for those of the provider.
func labelsBy(s *corev1.Secret, manager string) map[string]string {
	var out map[string]string
	for _, entry := range s.ManagedFields {
		if entry.Manager != manager || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Metadata struct {
				Labels map[string]struct{} `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		for field := range fields.Metadata.Labels {
			name := strings.TrimPrefix(field, "f:")
			value, there := s.Labels[name]
			if _, own := TokenSecretLabels()[name]; own || !there {
				continue
			}
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return out
}
