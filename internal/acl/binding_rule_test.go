package acl

import (
	"testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

func TestCheckBindName(t *testing.T) {
	for _, c := range []struct{ bindType, name, want string }{
		{"role", "Web_1-a", ""},
		{"role", "web/a", "the name would be refused"},
		{"role", "${serviceaccount.namespace}-${ serviceaccount.name }", ""},
		{"role", "a ${serviceaccount.name}", "the name would be refused"},
		{"role", "${serviceaccount.name", "a reference is not closed"},
		{"service", "web", ""},
		{"service", "Web", "lower-case"},
		{"service", "${serviceaccount.name}", ""},
		{"service", "-web", "the name would be refused"},
		{"node", "k8s-${serviceaccount.name}", ""},
		{"node", "Node", "lower-case"},
		{"policy", "global-management", ""},
		{"policy", "team/web", `a policy with "/" in its name`},
		{"templated-policy", "builtin/dns", ""},
		{"templated-policy", "builtin/other", `there is no template "builtin/other"`},
	} {
		err := checkBindName(c.bindType, c.name)
		if !wanted.Error(err, c.want) {
			t.Errorf("%s %q: %v, want %q", c.bindType, c.name, err, c.want)
		}
	}
}

func TestCheckSelector_knowsTheTypeOfTheAuthMethod(t *testing.T) {
	for _, c := range []struct {
		methodType, selector string
		want                 string // "" if it is valid
	}{
		{"", "", ""},
		{"", `serviceaccount.name == "x"`, ""},
		{"", `any.thing == "x" and not other is empty`, "no type of auth method has all the fields that it uses: the type kubernetes has " +
			"serviceaccount.namespace,"},
		{"", `serviceaccount.name == "x" and value.user == "x"`, "no type of auth method"},
		{"", `serviceaccount.name = "x"`, `it is not an expression such as serviceaccount.namespace == "shop"`},
		{"oidc", `any.thing == "x"`, ""}, // created by another tool
		{"kubernetes", `serviceaccount.namespace == "shop" and serviceaccount.name != "default"`, ""},
		{"kubernetes", `serviceaccount.namespace==default and serviceaccount.name!=vault`, ""}, // from Consul's documentation
		{"kubernetes", `serviceaccount.name matches "^web-"`, ""},
		{"kubernetes", `serviceaccount.name matches "["`, "regular expression"},
		{
			"kubernetes", `serviceaccount.nmae == "x"`,
			`Selector "serviceaccount.nmae" is not valid: the type kubernetes has serviceaccount.namespace, serviceaccount.name, serviceaccount.uid`,
		},
		{"kubernetes", `value.user == "x"`, `Selector "value" is not valid`},
		{"jwt", `value.user == "x" and "admins" in list.groups`, ""},
		{"jwt", `serviceaccount.name == "x"`, "the type jwt has value.<key>, list.<key>"},
		{"aws-iam", `entity_tags.team == "x" or account_id == "123456789012"`, ""},
		{"aws-iam", `list.groups is empty`, "the type aws-iam has entity_name,"},
	} {
		if err := checkSelector(c.methodType, c.selector); !wanted.Error(err, c.want) {
			t.Errorf("%s %s: %v, want %q", c.methodType, c.selector, err, c.want)
		}
	}
}

func TestCheckReferences(t *testing.T) {
	for _, c := range []struct {
		methodType, name string
		want             string // "" if it is valid
	}{
		{"", "web-${value.user}", ""},
		{"", "${serviceaccount.name}", ""},
		{
			"", "${anything}",
			`"${anything}" refers to something that does not exist: the type kubernetes has serviceaccount.namespace, serviceaccount.name, serviceaccount.uid; the type jwt has value.<key>;`,
		},
		{"", "${serviceaccount.name}${value.user}", "refers to something that does not exist"}, // of two types
		{"oidc", "${anything}", ""},
		{"kubernetes", "web", ""},
		{"kubernetes", "${serviceaccount.namespace}-${serviceaccount.name}-${serviceaccount.uid}", ""},
		{"kubernetes", "${serviceaccount}", "the type kubernetes has"},
		{"kubernetes", "${lower(serviceaccount.name)}", "the type kubernetes has"},
		{"kubernetes", "${value.user}", "the type kubernetes has"},
		{"jwt", "${value.user}", ""},
		{"jwt", "${value.}", "the type jwt has value.<key>"},
		{"jwt", "${list.groups}", "the type jwt has value.<key>"},
		{"aws-iam", "${entity_name}-${entity_tags.team}", ""},
		{"aws-iam", "${entity}", "the type aws-iam has"},
	} {
		if err := checkReferences(c.methodType, c.name); !wanted.Error(err, c.want) {
			t.Errorf("%s %s: %v, want %q", c.methodType, c.name, err, c.want)
		}
	}
}
