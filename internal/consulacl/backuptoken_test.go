package consulacl

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul/consultest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A schedule can be destroyed whatever is already gone of its token: the token, the policy, the management token of a
// cluster without ACLs, or the whole cluster. Then its Secret is deleted. The Secret is kept if the token could not
// be revoked.
func TestDeleteBackupToken_finishesIfPartsAreGone(t *testing.T) {
	t.Parallel()
	const policyPath, list = "GET /v1/acl/policy/name/terraform-backup", "GET /v1/acl/tokens"
	accessor := BackupTokenAccessor((&consul.Cluster{Namespace: "ns", Name: "consul"}), "hourly")
	token := "/v1/acl/token/" + accessor
	policy := map[string]string{"ID": "p", "Name": backupPolicy, "Description": backupDescription}
	deleted := consultest.Answers{
		"DELETE " + token: {200, true}, policyPath: {200, policy}, list: {200, []any{}}, "DELETE /v1/acl/policy/p": {200, true},
	}
	missing := consultest.Answers{
		"DELETE " + token: {404, "Cannot find token to delete"}, "GET " + token: {403, "token does not exist: ACL not found"},
	}
	disabled := consultest.Answers{"GET /v1/acl/token/self": {401, "ACL support disabled"}}
	for name, tt := range map[string]struct {
		consul  consultest.Answers
		gone    []string // missing in Kubernetes
		secret  bool     // is kept
		refused bool
	}{
		"nothing":               {consul: deleted},
		"the token":             {consul: deleted.With(missing)},
		"the policy":            {consul: deleted.With(consultest.Answers{policyPath: {404, "policy not found"}})},
		"the policy, meanwhile": {consul: deleted.With(consultest.Answers{"DELETE /v1/acl/policy/p": {404, "Cannot find policy to delete"}})},
		"the ACLs":              {consul: disabled, gone: []string{"secret"}},
		"the cluster":           {gone: []string{"secret", "pod", "statefulset"}},
		"nothing, and the token cannot be deleted": {consul: deleted.With(
			consultest.Answers{"DELETE " + token: {403, "Permission denied: token with AccessorID 'a' lacks permission 'acl:write'"}},
		), secret: true, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fake.NewClientset(consultest.BootstrappedCluster(1)...)
			target := Target{Namespace: "ns", Name: "backup", Key: "token"}
			s := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "backup", Labels: TokenSecretLabels()},
				Data:       map[string][]byte{"token": []byte("secret")},
			}
			s.Annotations = map[string]string{target.annotation(): accessor}
			if err := k.Tracker().Add(s); err != nil {
				t.Fatal(err)
			}
			c := consul.NewConnector(consultest.Serve(t, k, tt.consul)).Cluster("ns", "consul")
			for _, what := range tt.gone {
				var err error
				switch what {
				case "secret":
					err = k.CoreV1().Secrets("ns").Delete(t.Context(), "token", metav1.DeleteOptions{})
				case "pod":
					err = k.CoreV1().Pods("ns").Delete(t.Context(), "consul-server-0", metav1.DeleteOptions{})
				default:
					err = k.AppsV1().StatefulSets("ns").Delete(t.Context(), "consul-server", metav1.DeleteOptions{})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // once more, when everything is gone
				if err := DeleteBackupToken(t.Context(), c, "hourly", target); (err != nil) != tt.refused {
					t.Errorf("the error is %v", err)
				}
			}
			list, err := k.CoreV1().Secrets(
				"ns",
			).List(
				t.Context(),
				metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=" + ComponentToken},
			)
			if err != nil || (len(list.Items) > 0) != tt.secret {
				t.Errorf("%d Secrets are left, %v", len(list.Items), err)
			}
		})
	}
}
