package consulacl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// TokenReviewer is the service account with which the servers check the tokens of pods in the Kubernetes
// cluster that they run in.
type TokenReviewer struct {
	server.TokenReviewer
	kube    *kube.Client
	cluster *consul.Cluster
}

// NewTokenReviewer returns the token reviewer of an auth method; it asks nothing.
func NewTokenReviewer(c *consul.Cluster, authMethod string) *TokenReviewer {
	return &TokenReviewer{
		TokenReviewer: server.TokenReviewer{Namespace: c.Namespace, Cluster: c.Name, AuthMethod: authMethod},
		kube:          c.Kube,
		cluster:       c,
	}
}

// ReviewerCredential is what an auth method needs from a token reviewer: its token, which is a secret, and the
// certificate authority of the API server, in PEM format. Both are "" if they are not known.
type ReviewerCredential struct{ ServiceAccountJWT, CACert string }

// ReviewerState is a token reviewer as it was read.
type ReviewerState struct {
	// Exists says that there is at least one of its objects.
	Exists bool
	// Drift names what is missing or different, and Foreign names the objects with its names that do not belong
	// to it.
	Drift, Foreign []string
	// Credential in its Secret.
	Credential ReviewerCredential
}

// ForeignReviewerError says that objects with the names of a token reviewer exist and do not belong to it.
type ForeignReviewerError struct{ Objects []string }

// Error implements error.
func (e *ForeignReviewerError) Error() string {
	return "these objects exist, and this provider did not create them for this auth method: " + strings.Join(e.Objects, ", ")
}

// Read reads the objects of the token reviewer and changes nothing.
func (r *TokenReviewer) Read(ctx context.Context) (ReviewerState, error) {
	live, err := r.objects(ctx)
	if err != nil {
		return ReviewerState{}, err
	}
	s := ReviewerState{Drift: r.Drift(live), Foreign: r.Foreign(live), Exists: len(live.All()) > 0}
	if len(s.Foreign) == 0 {
		s.Credential = credentialIn(live)
	}
	return s, nil
}

func credentialIn(live server.TokenReviewerObjects) ReviewerCredential {
	if !live.HasToken() {
		return ReviewerCredential{}
	}
	return ReviewerCredential{
		ServiceAccountJWT: string(live.Secret.Data[corev1.ServiceAccountTokenKey]),
		CACert:            string(live.Secret.Data[corev1.ServiceAccountRootCAKey]),
	}
}

func (r *TokenReviewer) objects(ctx context.Context) (o server.TokenReviewerObjects, err error) {
	objects := r.Objects()
	account, err := r.kube.CoreV1().ServiceAccounts(r.Namespace).Get(ctx, objects.ServiceAccount.Name, metav1.GetOptions{})
	if o.ServiceAccount, err = read(account, err, objects.ServiceAccount); err != nil {
		return o, err
	}
	role, err := r.kube.RbacV1().ClusterRoles().Get(ctx, objects.Role.Name, metav1.GetOptions{})
	if o.Role, err = read(role, err, objects.Role); err != nil {
		return o, err
	}
	binding, err := r.kube.RbacV1().ClusterRoleBindings().Get(ctx, objects.Binding.Name, metav1.GetOptions{})
	if o.Binding, err = read(binding, err, objects.Binding); err != nil {
		return o, err
	}
	secret, err := r.kube.CoreV1().Secrets(r.Namespace).Get(ctx, objects.Secret.Name, metav1.GetOptions{})
	o.Secret, err = read(secret, err, objects.Secret)
	return o, err
}

// read turns the answer to a Get into the object, with the kind, which a typed Get does not set, or nil if
// there is none.
func read[T server.Object](got T, err error, like T) (T, error) {
	var none T
	kind := like.GetObjectKind().GroupVersionKind()
	found, err := kube.Found(err)
	if err != nil {
		return none, fmt.Errorf("reading %s %s: %w", kind.Kind, like.GetName(), err)
	}
	if !found {
		return none, nil
	}
	got.GetObjectKind().SetGroupVersionKind(kind)
	return got, nil
}

// Ensure creates or corrects the objects of the token reviewer, waits until Kubernetes has filled in the token,
// and returns it. It resumes from whatever exists. If an object belongs to something else, it returns a
// *ForeignReviewerError and touches nothing.
func (r *TokenReviewer) Ensure(ctx context.Context) (ReviewerCredential, error) {
	if err := r.readLabels(ctx); err != nil {
		return ReviewerCredential{}, err
	}
	live, err := r.objects(ctx)
	if err != nil {
		return ReviewerCredential{}, err
	}
	if foreign := r.Foreign(live); len(foreign) > 0 {
		return ReviewerCredential{}, &ForeignReviewerError{Objects: foreign}
	}
	want := r.Objects()
	if live.Binding != nil && live.Binding.RoleRef != want.Binding.RoleRef {
		// Kubernetes does not allow changing it.
		if err := r.delete(ctx, live.Binding); err != nil {
			return ReviewerCredential{}, err
		}
	}
	for _, o := range []server.Object{want.ServiceAccount, want.Role, want.Binding} {
		if err := r.apply(ctx, o); err != nil {
			return ReviewerCredential{}, err
		}
	}
	var credential ReviewerCredential
	err = kube.Wait(
		ctx,
		"the token of ServiceAccount "+r.Namespace+"/"+r.AccountName(),
		200*time.Millisecond,
		func(ctx context.Context) (string, error) {
			live, err := r.objects(ctx)
			if err != nil {
				return "", err
			}
			switch {
			case live.ServiceAccount == nil: // somebody deleted it meanwhile
				return "the ServiceAccount is gone", r.apply(ctx, want.ServiceAccount)
			case live.HasToken():
				credential = credentialIn(live)
				return "", nil
			case live.Secret == nil:
				return "Kubernetes has not filled it in", r.apply(ctx, want.Secret)
			case isOfAnother(live.Secret, live.ServiceAccount):
				return "the Secret still holds the old token", r.delete(ctx, live.Secret)
			}
			return "Kubernetes has not filled it in", nil
		},
	)
	return credential, err
}

// Relabel applies the objects that exist, if the credential may: the plan of the auth method shows others.
func (r *TokenReviewer) Relabel(ctx context.Context) error {
	if err := r.readLabels(ctx); err != nil {
		return err
	}
	live, err := r.objects(ctx)
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, want := range r.Objects().All() {
		there := slices.ContainsFunc(live.All(), func(o server.Object) bool {
			return r.Owns(o) && o.GetObjectKind().GroupVersionKind() == want.GetObjectKind().GroupVersionKind()
		})
		if !there {
			continue
		}
		if err := r.apply(ctx, want); err != nil && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return nil
}

// readLabels reads the labels that the objects have in common with those of the cluster.
func (r *TokenReviewer) readLabels(ctx context.Context) (err error) {
	r.Labels, err = r.cluster.DeclaredLabels(ctx)
	return err
}

// isOfAnother reports whether a Secret can never hold a token of an account: neither its type nor its account
// can be changed.
func isOfAnother(s *corev1.Secret, a *corev1.ServiceAccount) bool {
	uid := s.Annotations[corev1.ServiceAccountUIDKey]
	return s.Type != corev1.SecretTypeServiceAccountToken || s.Annotations[corev1.ServiceAccountNameKey] != a.Name ||
		(uid != "" && uid != string(a.UID))
}

func (r *TokenReviewer) apply(ctx context.Context, o server.Object) error {
	fields, err := server.Fields(o)
	if err != nil {
		return err
	}
	return r.kube.Apply(ctx, fields)
}

// Delete deletes the objects of the token reviewer, the rights first. Objects that no longer exist, and objects
// that do not belong to it, are not an error.
func (r *TokenReviewer) Delete(ctx context.Context) error {
	live, err := r.objects(ctx)
	if err != nil {
		return err
	}
	all := live.All()
	for i := len(all) - 1; i >= 0; i-- {
		if !r.Owns(all[i]) {
			continue
		}
		if err := r.delete(ctx, all[i]); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes an object as it was read.
func (r *TokenReviewer) delete(ctx context.Context, o server.Object) error {
	uid := o.GetUID()
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	var err error
	kind, name := o.GetObjectKind().GroupVersionKind().Kind, o.GetName()
	switch kind {
	case "ServiceAccount":
		err = r.kube.CoreV1().ServiceAccounts(r.Namespace).Delete(ctx, name, options)
	case "ClusterRole":
		err = r.kube.RbacV1().ClusterRoles().Delete(ctx, name, options)
	case "ClusterRoleBinding":
		err = r.kube.RbacV1().ClusterRoleBindings().Delete(ctx, name, options)
	case "Secret":
		err = r.kube.CoreV1().Secrets(r.Namespace).Delete(ctx, name, options)
	default:
		return fmt.Errorf("no rule to delete a %s", kind)
	}
	if _, err := kube.Found(err); err != nil {
		return fmt.Errorf("deleting %s %s: %w", kind, name, err)
	}
	return nil
}
