package acl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/aclrules"
)

var _ function.Function = &PolicyRulesFunction{}

// PolicyRulesFunction is the function policy_rules.
type PolicyRulesFunction struct{}

// NewPolicyRulesFunction returns the function policy_rules.
func NewPolicyRulesFunction() function.Function { return &PolicyRulesFunction{} }

// rulesParameter is the name of the only parameter.
const rulesParameter = "rules"

// Metadata implements function.Function.
func (*PolicyRulesFunction) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "policy_rules"
}

// Definition implements function.Function.
func (*PolicyRulesFunction) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Rules of an ACL policy from an object",
		MarkdownDescription: "Returns the rules of an ACL policy as HCL. The same rules always give the same sorted text, however the object " +
			"is written. " +
			"Names of resources, dispositions, and attributes are checked, so that a typing error cannot silently leave out a right. " +
			"The function does not contact Consul or Kubernetes. Provider functions require Terraform 1.8 or later, or OpenTofu 1.7 or later.",
		Parameters: []function.Parameter{function.DynamicParameter{
			Name: rulesParameter,
			MarkdownDescription: "Object of [resources](https://developer.hashicorp.com/consul/docs/reference/acl/rule). " +
				"`acl`, `keyring`, `mesh`, `operator`, and `peering` take a disposition: `\"read\"`, `\"write\"`, or `\"deny\"`. " +
				"`agent`, `event`, `key`, `node`, `query`, `service`, `session`, and each of them with `_prefix`, take a map from segments to " +
				"dispositions, " +
				"or to objects with `policy` and, for services, `intentions`. `key` and `key_prefix` also accept the disposition `\"list\"`. Values " +
				"that are `null` are left out.",
		}},
		Return: function.StringReturn{},
	}
}

// Run implements function.Function.
func (*PolicyRulesFunction) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var argument types.Dynamic
	if resp.Error = req.Arguments.Get(ctx, &argument); resp.Error != nil {
		return
	}
	var r rulesReader
	r.read(argument)
	switch {
	case len(r.problems) > 0:
		resp.Error = function.NewArgumentFuncError(0, strings.Join(r.problems, "\n"))
	case r.unknown:
		resp.Error = resp.Result.Set(ctx, types.StringUnknown())
	default:
		rules, err := aclrules.NewRules(r.rules)
		if err != nil {
			resp.Error = function.NewArgumentFuncError(0, err.Error())
			return
		}
		resp.Error = resp.Result.Set(ctx, rules.HCL())
	}
}

// rulesReader reads the whole argument of policy_rules, whatever is wrong with it.
type rulesReader struct {
	rules []aclrules.Rule
	// problems begin with the path of the value within the argument.
	problems []string
	// unknown reports that a part of the argument is not known yet.
	unknown bool
}

func (r *rulesReader) problem(at, format string, args ...any) {
	r.problems = append(r.problems, at+": "+fmt.Sprintf(format, args...))
}

func (r *rulesReader) read(argument tfattr.Value) {
	resources, _ := r.elements(rulesParameter, argument, "an object of resources")
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		r.readAbout(rulesParameter+"."+resource, resource, resources[resource])
	}
}

// readAbout reads the rules about one resource.
func (r *rulesReader) readAbout(at, resource string, value tfattr.Value) {
	segmented, err := aclrules.HasSegments(resource)
	switch {
	case err != nil:
		r.problem(at, "%s", err)
	case isNull(value):
	case !segmented:
		if policy, ok := r.disposition(at, value); ok {
			r.add(at, aclrules.Rule{Resource: resource, Policy: policy})
		}
	default:
		segments, _ := r.elements(at, value, "a map from segments to dispositions")
		for _, segment := range slices.Sorted(maps.Keys(segments)) {
			r.readSegment(at+"["+strconv.Quote(segment)+"]", aclrules.Rule{Resource: resource, Segment: segment}, segments[segment])
		}
	}
}

// readSegment reads the value of a segment: a disposition, or an object of
// dispositions.
func (r *rulesReader) readSegment(at string, rule aclrules.Rule, value tfattr.Value) {
	if isNull(value) {
		return
	}
	value = underlying(value)
	var ok bool
	if _, isText := value.(basetypes.StringValue); isText || value.IsUnknown() {
		rule.Policy, ok = r.disposition(at, value)
	} else {
		var attributes map[string]tfattr.Value
		attributes, ok = r.elements(at, value, "a disposition, or an object with policy and intentions")
		for _, name := range slices.Sorted(maps.Keys(attributes)) {
			to := map[string]*string{"policy": &rule.Policy, "intentions": &rule.Intentions}[name]
			if to == nil {
				r.problem(at+"."+name, "there is no such attribute: use policy and, for services, intentions")
				ok = false
				continue
			}
			var read bool
			*to, read = r.disposition(at+"."+name, attributes[name])
			ok = ok && read
		}
	}
	if ok {
		r.add(at, rule)
	}
}

func (r *rulesReader) add(at string, rule aclrules.Rule) {
	if err := rule.Validate(); err != nil {
		r.problem(at, "%s", err)
		return
	}
	r.rules = append(r.rules, rule)
}

// disposition reads a string; null is "". If the value is not a known string, it
// returns false and records why.
func (r *rulesReader) disposition(at string, value tfattr.Value) (text string, ok bool) {
	value = underlying(value)
	switch v, isText := value.(basetypes.StringValue); {
	case isNull(value):
		return "", true
	case value.IsUnknown():
		r.unknown = true
		return "", false
	case !isText:
		r.problem(at, "expected a disposition, such as \"read\"")
		return "", false
	default:
		return v.ValueString(), true
	}
}

// elements returns the elements of an object or a map, none for null. If the value
// is neither, or is not known, it returns false and records why.
func (r *rulesReader) elements(at string, value tfattr.Value, what string) (elements map[string]tfattr.Value, ok bool) {
	value = underlying(value)
	switch {
	case isNull(value):
		return nil, true
	case value.IsUnknown():
		r.unknown = true
		return nil, false
	}
	switch v := value.(type) {
	case basetypes.ObjectValue:
		return v.Attributes(), true
	case basetypes.MapValue:
		return v.Elements(), true
	}
	r.problem(at, "expected %s", what)
	return nil, false
}

// underlying returns the value inside a dynamic value.
func underlying(value tfattr.Value) tfattr.Value {
	for {
		d, ok := value.(basetypes.DynamicValue)
		if !ok || d.IsNull() || d.IsUnknown() {
			return value
		}
		value = d.UnderlyingValue()
	}
}

func isNull(value tfattr.Value) bool {
	value = underlying(value)
	return value == nil || value.IsNull()
}
