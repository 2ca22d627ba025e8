package server

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KubernetesHost is the address of the API server that every pod of its cluster can resolve and reach; the API
// server's certificate contains this name.
const KubernetesHost = "https://kubernetes.default.svc"

// ComponentTokenReviewer is the component label of a token reviewer's objects.
const ComponentTokenReviewer = "token-reviewer"

// annotationReviewerOf names the auth method that an object belongs to, as "<namespace>/<cluster>/<auth
// method>". Together with LabelManagedBy, it proves ownership: an object without it is never changed.
const annotationReviewerOf = ManagedBy + "/token-reviewer-of"

// TokenReviewer is the service account with which the servers of a cluster check the tokens of pods that log in
// through one auth method, in the Kubernetes cluster that the servers run in.
type TokenReviewer struct {
	Namespace, Cluster, AuthMethod string
	// Labels that are declared for every object of the cluster.
	Labels map[string]string
}

// AccountName is the ServiceAccount, and the Secret with its token, in the
// namespace of the cluster.
func (r TokenReviewer) AccountName() string {
	const longest = 63
	name := strings.Trim(strings.ReplaceAll(strings.ToLower(r.AuthMethod), "_", "-"), "-")
	prefix := r.Cluster + "-auth-"
	if name == r.AuthMethod && len(prefix)+len(name) <= longest {
		return prefix + name
	}
	// Auth methods may differ in characters that a name in Kubernetes cannot contain.
	sum := sha256.Sum256([]byte(r.AuthMethod))
	hash := hex.EncodeToString(sum[:4])
	name = name[:max(0, min(len(name), longest-len(prefix)-len(hash)-1))]
	return prefix + strings.TrimLeft(name+"-"+hash, "-")
}

// RoleName is the ClusterRole and its ClusterRoleBinding.
func (r TokenReviewer) RoleName() string {
	return strings.Join([]string{ManagedBy, r.Namespace, r.Cluster, r.AuthMethod}, ":")
}

func (r TokenReviewer) id() string { return r.Namespace + "/" + r.Cluster + "/" + r.AuthMethod }

// TokenReviewerObjects are the Kubernetes objects of a token reviewer. If they were read, an object that does
// not exist is nil.
type TokenReviewerObjects struct {
	ServiceAccount *corev1.ServiceAccount
	Role           *rbacv1.ClusterRole
	Binding        *rbacv1.ClusterRoleBinding
	Secret         *corev1.Secret
}

// All lists the objects in the order in which they are applied: the Secret comes last, because Kubernetes
// deletes it if its ServiceAccount does not exist.
func (o TokenReviewerObjects) All() []Object {
	var all []Object
	if o.ServiceAccount != nil {
		all = append(all, o.ServiceAccount)
	}
	if o.Role != nil {
		all = append(all, o.Role)
	}
	if o.Binding != nil {
		all = append(all, o.Binding)
	}
	if o.Secret != nil {
		all = append(all, o.Secret)
	}
	return all
}

// Objects renders the Kubernetes objects of the token reviewer.
func (r TokenReviewer) Objects() TokenReviewerObjects {
	named := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Name: name, Namespace: namespace,
			Labels:      merged(r.Labels, OwnerLabels(r.Cluster), map[string]string{LabelComponent: ComponentTokenReviewer}),
			Annotations: map[string]string{annotationReviewerOf: r.id()},
		}
	}
	secret := named(r.Namespace, r.AccountName())
	secret.Annotations[corev1.ServiceAccountNameKey] = r.AccountName()
	return TokenReviewerObjects{
		ServiceAccount: &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: named(r.Namespace, r.AccountName()),
			// No pod runs as it.
			AutomountServiceAccountToken: new(false),
		},
		// What Consul asks at a login, and nothing else: whether the token is valid, and whether its
		// ServiceAccount has an annotation that names a service (agent/consul/authmethod/kubeauth of Consul).
		// The role system:auth-delegator would also allow it to ask who may do what.
		Role: &rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"},
			ObjectMeta: named("", r.RoleName()),
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
				{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}},
			},
		},
		Binding: &rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"},
			ObjectMeta: named("", r.RoleName()),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: r.RoleName()},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: r.AccountName(), Namespace: r.Namespace}},
		},
		// Kubernetes fills in a token that does not expire: Consul cannot renew one.
		Secret: &corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: secret,
			Type:       corev1.SecretTypeServiceAccountToken,
		},
	}
}

// ReviewedAuthMethod is the auth method of a cluster whose token reviewer an object is a part of, false for any other object.
func ReviewedAuthMethod(namespace, cluster string, o metav1.Object) (string, bool) {
	return strings.CutPrefix(o.GetAnnotations()[annotationReviewerOf], namespace+"/"+cluster+"/")
}

// Owns reports whether a live object belongs to the token reviewer.
func (r TokenReviewer) Owns(o Object) bool {
	return o.GetLabels()[LabelManagedBy] == ManagedBy && o.GetAnnotations()[annotationReviewerOf] == r.id()
}

// Foreign lists the live objects that have the names of the token reviewer's objects and do not belong to it.
func (r TokenReviewer) Foreign(live TokenReviewerObjects) []string {
	var out []string
	for _, o := range live.All() {
		if !r.Owns(o) {
			out = append(out, objectKey(o))
		}
	}
	return out
}

// Drift names what is missing or different in the live objects.
func (r TokenReviewer) Drift(live TokenReviewerObjects) []string {
	want := r.Objects()
	var out []string
	differs := func(o Object, what string, is bool) {
		if is {
			out = append(out, objectKey(o)+": "+what)
		}
	}
	differs(want.ServiceAccount, "missing", live.ServiceAccount == nil)
	differs(want.Role, "missing", live.Role == nil)
	differs(want.Role, "rules", live.Role != nil && !reflect.DeepEqual(live.Role.Rules, want.Role.Rules))
	differs(want.Binding, "missing", live.Binding == nil)
	differs(want.Binding, "roleRef", live.Binding != nil && live.Binding.RoleRef != want.Binding.RoleRef)
	differs(want.Binding, "subjects", live.Binding != nil && !reflect.DeepEqual(live.Binding.Subjects, want.Binding.Subjects))
	differs(want.Secret, "missing", live.Secret == nil)
	differs(want.Secret, "the token", live.Secret != nil && !live.HasToken())
	return out
}

// HasToken reports whether the Secret holds a token of the current ServiceAccount. A ServiceAccount that was
// created again has another UID, and its old tokens are void.
func (o TokenReviewerObjects) HasToken() bool {
	return o.ServiceAccount != nil && o.Secret != nil && o.Secret.Type == corev1.SecretTypeServiceAccountToken &&
		o.Secret.Annotations[corev1.ServiceAccountUIDKey] == string(o.ServiceAccount.UID) &&
		len(o.Secret.Data[corev1.ServiceAccountTokenKey]) > 0 && len(o.Secret.Data[corev1.ServiceAccountRootCAKey]) > 0
}
