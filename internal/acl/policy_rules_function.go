package acl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
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
		MarkdownDescription: "Returns the rules of an ACL policy as HCL, one text for each meaning: sorted, and the same however the object is written. " +
			"Names of resources, dispositions and attributes are checked, so that a typing error cannot silently leave out a right. " +
			"Nothing is asked of Consul or of Kubernetes. Functions of providers take Terraform 1.8 or OpenTofu 1.7.",
		Parameters: []function.Parameter{function.DynamicParameter{
			Name: rulesParameter,
			MarkdownDescription: "An object of [resources](https://developer.hashicorp.com/consul/docs/reference/acl/rule). " +
				"`acl`, `keyring`, `mesh`, `operator` and `peering` are set to a disposition: `\"read\"`, `\"write\"` or `\"deny\"`. " +
				"`agent`, `event`, `key`, `node`, `query`, `service`, `session`, and each of them with `_prefix`, are set to a map from segments to dispositions, " +
				"or to objects with `policy` and, for services, `intentions`. Keys may also be set to `\"list\"`. What is `null` is left out.",
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
	rules, err := rulesOf(argument)
	switch {
	case errors.Is(err, errUnknownRule):
		resp.Error = resp.Result.Set(ctx, types.StringUnknown())
	case err != nil:
		resp.Error = function.NewArgumentFuncError(0, err.Error())
	default:
		resp.Error = resp.Result.Set(ctx, rules.HCL())
	}
}

// errUnknownRule says that a part of the argument is not known yet.
var errUnknownRule = errors.New("not known yet")

// rulesOf reads the argument of policy_rules. Errors begin with the path of the
// value within it.
func rulesOf(argument tfattr.Value) (consul.Rules, error) {
	resources, err := elements(rulesParameter, argument, "an object of resources")
	if err != nil {
		return consul.Rules{}, err
	}
	var rules []consul.Rule
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		at := rulesParameter + "." + resource
		found, err := rulesAbout(at, resource, resources[resource])
		if err != nil {
			return consul.Rules{}, err
		}
		rules = append(rules, found...)
	}
	return consul.NewRules(rules)
}

// rulesAbout reads the rules about one resource.
func rulesAbout(at, resource string, value tfattr.Value) ([]consul.Rule, error) {
	segmented, err := consul.HasSegments(resource)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if isNull(value) {
		return nil, nil
	}
	if !segmented {
		policy, err := disposition(at, value)
		if err != nil {
			return nil, err
		}
		rule := consul.Rule{Resource: resource, Policy: policy}
		return []consul.Rule{rule}, within(at, rule.Validate())
	}
	segments, err := elements(at, value, "a map from segments to dispositions")
	if err != nil {
		return nil, err
	}
	var rules []consul.Rule
	for _, segment := range slices.Sorted(maps.Keys(segments)) {
		at := at + "[" + strconv.Quote(segment) + "]"
		rule := consul.Rule{Resource: resource, Segment: segment}
		known, err := setRights(at, &rule, segments[segment])
		if err != nil {
			return nil, err
		}
		if !known {
			continue
		}
		if err := rule.Validate(); err != nil {
			return nil, within(at, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// setRights reads what a segment is set to: a disposition, or an object of
// them. It reports false where there is nothing.
func setRights(at string, rule *consul.Rule, value tfattr.Value) (set bool, err error) {
	if isNull(value) {
		return false, nil
	}
	value = underlying(value)
	if _, ok := value.(basetypes.StringValue); ok || value.IsUnknown() {
		rule.Policy, err = disposition(at, value)
		return true, err
	}
	attributes, err := elements(at, value, "a disposition, or an object with policy and intentions")
	if err != nil {
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		to := map[string]*string{"policy": &rule.Policy, "intentions": &rule.Intentions}[name]
		if to == nil {
			return false, fmt.Errorf("%s.%s: there is no such attribute; there are policy and, for services, intentions", at, name)
		}
		if *to, err = disposition(at+"."+name, attributes[name]); err != nil {
			return false, err
		}
	}
	return true, nil
}

// disposition reads a string; null is "".
func disposition(at string, value tfattr.Value) (string, error) {
	value = underlying(value)
	switch v, ok := value.(basetypes.StringValue); {
	case isNull(value):
		return "", nil
	case value.IsUnknown():
		return "", errUnknownRule
	case !ok:
		return "", fmt.Errorf("%s: expected a disposition, such as \"read\"", at)
	default:
		return v.ValueString(), nil
	}
}

// elements returns the elements of an object or a map; none for null.
func elements(at string, value tfattr.Value, what string) (map[string]tfattr.Value, error) {
	value = underlying(value)
	switch {
	case isNull(value):
		return nil, nil
	case value.IsUnknown():
		return nil, errUnknownRule
	}
	switch v := value.(type) {
	case basetypes.ObjectValue:
		return v.Attributes(), nil
	case basetypes.MapValue:
		return v.Elements(), nil
	}
	return nil, fmt.Errorf("%s: expected %s", at, what)
}

// underlying is the value in a dynamic one.
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

func within(at string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", at, err)
}
