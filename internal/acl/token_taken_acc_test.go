package acl_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/acctest"
)

// A Secret of somebody else is refused with the ways out; one of them is to label
// it, and then its other keys stay.
func TestAccToken_aLabelledSecretOfSomebodyElseTakesAKey(t *testing.T) {
	t.Parallel()
	f := bootstrapped(t)
	_, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, StringData: map[string]string{"password": "theirs"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const managedBy, component = "app.kubernetes.io/managed-by", "app.kubernetes.io/component"
	const provider, ofTokens = "terraform-provider-consul-k8s", "acl-token"
	hcl := f.tokenHCL("a", `secret = { name = "theirs" }`)
	theirs := func(*terraform.State) error { return same(f.secret("theirs", "password"), "theirs") }
	test(t, resource.TestCase{
		CheckDestroy: func(s *terraform.State) error {
			return errors.Join(theirs(s), same(f.secret("theirs", "token"), ""))
		},
		Steps: []resource.TestStep{
			{Config: hcl, PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says(fmt.Sprintf("kubectl label secret -n %s theirs %s=%s %s=%s", f.Namespace, managedBy, provider, component, ofTokens))},
			{
				PreConfig: f.patchSecret("theirs", fmt.Sprintf(`{"metadata":{"labels":{%q:%q,%q:%q}}}`, managedBy, provider, component, ofTokens)),
				Config:    hcl,
				Check: resource.ComposeTestCheckFunc(theirs, func(*terraform.State) error {
					known, err := f.knows(f.secret("theirs", "token"))
					if err == nil && !known {
						err = errors.New("the key does not hold a token of the cluster")
					}
					return err
				}),
			},
			{Config: hcl, PlanOnly: true},
			{ // a key that it has is never written
				Config: hcl + f.tokenHCL("b", `secret = { name = "theirs", key = "password" }`), PlanOnly: true, ExpectNonEmptyPlan: true, ExpectError: acctest.Says("its key password, exists and is not this provider's"),
			},
		},
	})
	if _, err := acctest.Kube(t).CoreV1().Secrets(f.Namespace).Get(context.Background(), "theirs", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
