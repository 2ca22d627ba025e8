package acl

import (
	"strings"
	"testing"
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
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %q: %v, want %q", c.bindType, c.name, err, c.want)
		}
	}
}

func TestCheckSelector_knowsTheTypeOfTheAuthMethod(t *testing.T) {
	for _, c := range []struct {
		methodType, selector string
		valid                bool
	}{
		{"", "", true},
		{"", `any.thing == "x" and not other is empty`, true},
		{"", `serviceaccount.name = "x"`, false},
		{"kubernetes", `serviceaccount.namespace == "shop" and serviceaccount.name != "default"`, true},
		{"kubernetes", `serviceaccount.namespace==default and serviceaccount.name!=vault`, true}, // of Consul's documentation
		{"kubernetes", `serviceaccount.name matches "^web-"`, true},
		{"kubernetes", `serviceaccount.name matches "["`, false},
		{"kubernetes", `serviceaccount.nmae == "x"`, false},
		{"kubernetes", `value.user == "x"`, false},
		{"jwt", `value.user == "x" and "admins" in list.groups`, true},
		{"jwt", `serviceaccount.name == "x"`, false},
		{"aws-iam", `entity_tags.team == "x" or account_id == "123456789012"`, true},
		{"aws-iam", `list.groups is empty`, false},
	} {
		if err := checkSelector(c.methodType, c.selector); (err == nil) != c.valid {
			t.Errorf("%s %s: %v", c.methodType, c.selector, err)
		}
	}
}

func TestCheckReferences(t *testing.T) {
	for _, c := range []struct {
		methodType, name string
		valid            bool
	}{
		{"", "${anything}", true},
		{"kubernetes", "web", true},
		{"kubernetes", "${serviceaccount.namespace}-${serviceaccount.name}-${serviceaccount.uid}", true},
		{"kubernetes", "${serviceaccount}", false},
		{"kubernetes", "${value.user}", false},
		{"jwt", "${value.user}", true},
		{"jwt", "${list.groups}", false},
		{"aws-iam", "${entity_name}-${entity_tags.team}", true},
		{"aws-iam", "${entity}", false},
	} {
		if err := checkReferences(c.methodType, c.name); (err == nil) != c.valid {
			t.Errorf("%s %s: %v", c.methodType, c.name, err)
		}
	}
}
