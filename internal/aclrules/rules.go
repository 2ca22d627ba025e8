// Package aclrules reads, compares, and renders the rules of ACL policies.
package aclrules

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	// Version 1 of HCL, with the patches of Consul's own go.mod: rules are HCL 1, which version 2 cannot read
	// ("}," between blocks, unquoted keys). MPL-2.0.
	"github.com/hashicorp/hcl/hcl/ast"
	hclparser "github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	"github.com/hashicorp/hcl/hcl/token"
	jsonparser "github.com/hashicorp/hcl/json/parser"
)

// Rules is the meaning of the text of an ACL policy: which rights it grants, in whatever form it is written.
// The zero value grants nothing.
type Rules struct {
	rights map[scope]right
}

// scope is what a rule is about.
type scope struct{ resource, segment string }

// right is what a rule says about its scope.
type right struct{ policy, intentions string }

// Rule is one rule of an ACL policy, such as key_prefix "vault/" { policy = "write" }.
type Rule struct {
	// Resource that the rule is about, such as "key_prefix" or "operator".
	Resource string
	// Segment is the name or the prefix of names that the rule is about; "" for a
	// resource that has none. The prefix "" stands for all names.
	Segment string
	// Policy is "deny", "read", or "write", or for keys "list", which is read and the right to list keys
	// (acl.enable_key_list_policy).
	Policy string
	// Intentions is what may be done with the intentions of a service: "deny", "read", or "write"; "" leaves it
	// to Consul, which allows tokens that may read or write the service to read them.
	Intentions string
}

// RuleError is one thing that is wrong with rules.
type RuleError struct {
	// Line and Column in the text, both from 1; 0 where it is not known: JSON is
	// located by resource and segment.
	Line, Column int
	// Problem says what is wrong and what to write instead.
	Problem string
}

// Error implements error.
func (e *RuleError) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// Dispositions, the strictest first: the order of precedence in Consul if several policies are about the same
// segment (acl/policy.go).
const (
	policyDeny  = "deny"
	policyWrite = "write"
	policyList  = "list"
	policyRead  = "read"
)

// resources of the community edition, and whether a rule about one names a
// segment (developer.hashicorp.com/consul/docs/reference/acl/rule).
var resources = map[string]bool{
	"acl": false, "keyring": false, "mesh": false, "operator": false, "peering": false,
	"agent": true, "agent_prefix": true,
	"event": true, "event_prefix": true,
	"key": true, "key_prefix": true,
	"node": true, "node_prefix": true,
	"query": true, "query_prefix": true,
	"service": true, "service_prefix": true,
	"session": true, "session_prefix": true,
}

// HasSegments reports whether rules about a resource name a segment. If the resource does not exist, the error
// says what is wrong with its name.
func HasSegments(resource string) (bool, error) {
	segments, ok := resources[resource]
	switch {
	case ok:
		return segments, nil
	case slices.Contains([]string{"namespace", "namespace_prefix", "partition", "partition_prefix", "sentinel"}, resource):
		return false, &RuleError{Problem: resource + " requires Consul Enterprise: this provider runs the community edition, which ignores it"}
	case resource == "identity" || resource == "identity_prefix":
		return false, &RuleError{Problem: "Consul no longer has the resource " + resource + " and ignores it: remove it"}
	}
	names := slices.Sorted(maps.Keys(resources))
	hint := "the resources are " + strings.Join(names, ", ")
	if near := nearest(resource, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return false, &RuleError{Problem: fmt.Sprintf("there is no resource %s, and Consul would silently ignore it: %s", resource, hint)}
}

// NewRules returns the meaning of rules. The error joins a *RuleError for each
// thing that is wrong.
func NewRules(list []Rule) (Rules, error) {
	var b rulesBuilder
	for _, r := range list {
		if err := r.Validate(); err != nil {
			b.add(token.Pos{}, err.Error())
			continue
		}
		b.put(token.Pos{}, r)
	}
	return b.build()
}

// Validate says what is wrong with a rule by itself; the error is a *RuleError.
func (r Rule) Validate() error {
	segments, err := HasSegments(r.Resource)
	switch {
	case err != nil:
		return err
	case !segments && r.Segment != "":
		return &RuleError{Problem: r.Resource + " has no segments"}
	case r.Policy == "":
		return &RuleError{Problem: fmt.Sprintf("%s has no policy: it must be %s", r.name(), anyOf(r.dispositions()))}
	case r.Intentions != "" && !hasIntentions(r.Resource):
		return &RuleError{Problem: r.name() + " does not support intentions: only service and service_prefix do"}
	}
	if err := checkDisposition(r.name(), "policy", r.Policy, r.dispositions()); err != nil {
		return err
	}
	if r.Intentions != "" {
		return checkDisposition(r.name(), "intentions", r.Intentions, r.dispositions())
	}
	return nil
}

func checkDisposition(name, attribute, disposition string, legal []string) error {
	lower := strings.ToLower(disposition)
	switch {
	case slices.Contains(legal, disposition):
		return nil
	case slices.Contains(legal, lower):
		// acl/policy.go: isPolicyValid ignores the case, takesPrecedenceOver does not.
		return &RuleError{
			Problem: fmt.Sprintf(
				"%s: write %s in lower case, as %q: Consul accepts %q, but any other rule takes precedence over it, and Consul ignores it in a rule "+
					"without a segment",
				name,
				attribute,
				lower,
				disposition,
			),
		}
	case lower == policyList:
		return &RuleError{
			Problem: fmt.Sprintf(
				"%s: %s cannot be %q, which only key and key_prefix support: it must be %s",
				name,
				attribute,
				disposition,
				anyOf(legal),
			),
		}
	}
	return &RuleError{Problem: fmt.Sprintf("%s: %s cannot be %q: it must be %s", name, attribute, disposition, anyOf(legal))}
}

func (r Rule) dispositions() []string {
	if r.Resource == "key" || r.Resource == "key_prefix" {
		return []string{policyRead, policyList, policyWrite, policyDeny}
	}
	return []string{policyRead, policyWrite, policyDeny}
}

// name is what a user calls the rule.
func (r Rule) name() string {
	if !resources[r.Resource] {
		return r.Resource
	}
	return r.Resource + " " + quoteHCL(r.Segment)
}

func hasIntentions(resource string) bool {
	return resource == "service" || resource == "service_prefix"
}

// anyOf lists words: "read", "write" or "deny".
func anyOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// Equal reports whether two texts mean the same.
func (r Rules) Equal(o Rules) bool { return maps.Equal(r.rights, o.rights) }

// List returns the rules by resource and segment, those without segments first.
func (r Rules) List() []Rule {
	list := make([]Rule, 0, len(r.rights))
	for of, is := range r.rights {
		list = append(list, Rule{Resource: of.resource, Segment: of.segment, Policy: is.policy, Intentions: is.intentions})
	}
	slices.SortFunc(list, func(a, b Rule) int {
		if resources[a.Resource] != resources[b.Resource] {
			if resources[b.Resource] {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Segment, b.Segment))
	})
	return list
}

// HCL returns the rules as a text that a user would write: one for each
// meaning, sorted and formatted.
func (r Rules) HCL() string {
	list := r.List()
	width := 0
	for _, rule := range list {
		if !resources[rule.Resource] {
			width = max(width, len(rule.Resource))
		}
	}
	var s strings.Builder
	for i, rule := range list {
		if !resources[rule.Resource] {
			fmt.Fprintf(&s, "%-*s = %q\n", width, rule.Resource, rule.Policy)
			continue
		}
		if i > 0 {
			s.WriteString("\n")
		}
		fmt.Fprintf(&s, "%s {\n", rule.name())
		if rule.Intentions == "" {
			fmt.Fprintf(&s, "  policy = %q\n", rule.Policy)
		} else {
			fmt.Fprintf(&s, "  policy     = %q\n  intentions = %q\n", rule.Policy, rule.Intentions)
		}
		s.WriteString("}\n")
	}
	return s.String()
}

// quoteHCL writes a string of HCL 1. "${" would begin an interpolation, in
// which nothing is escaped and braces must match.
func quoteHCL(s string) string {
	q := []byte{'"'}
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			q = fmt.Appendf(q, `\x%02x`, s[i])
		case r == '"' || r == '\\':
			q = append(q, '\\', byte(r))
		case r == '\n':
			q = append(q, `\n`...)
		case r == '\t':
			q = append(q, `\t`...)
		case r > 0xffff && !unicode.IsPrint(r):
			q = fmt.Appendf(q, `\U%08x`, r)
		case !unicode.IsPrint(r), r == '$' && strings.HasPrefix(s[i+1:], "{"):
			q = fmt.Appendf(q, `\u%04x`, r)
		default:
			q = utf8.AppendRune(q, r)
		}
		i += size
	}
	return string(append(q, '"'))
}

// ParseRules reads the text of an ACL policy, HCL 1 or JSON, as Consul does. The
// error joins a *RuleError for each thing that is wrong.
//
// It refuses what Consul refuses, and also what Consul accepts but ignores, or what is probably a mistake:
// unknown names, different rights for one segment, dispositions in upper case, and JSON that is cut off.
func ParseRules(text string) (Rules, error) {
	b := rulesBuilder{json: isJSON(text)}
	list, err := b.parse(text)
	if err != nil {
		return Rules{}, err
	}
	b.file(list)
	return b.build()
}

// isJSON reports whether the HCL library, and so Consul, treats a text as JSON.
func isJSON(text string) bool {
	return strings.HasPrefix(strings.TrimLeftFunc(text, unicode.IsSpace), "{")
}

// rulesBuilder collects rules, and what is wrong with them.
type rulesBuilder struct {
	json     bool // the text is JSON
	rights   map[scope]right
	problems []error
}

func (b *rulesBuilder) build() (Rules, error) {
	if len(b.problems) > 0 {
		return Rules{}, errors.Join(b.problems...)
	}
	return Rules{rights: b.rights}, nil
}

func (b *rulesBuilder) add(at token.Pos, problem string) {
	b.problems = append(b.problems, &RuleError{Line: at.Line, Column: at.Column, Problem: problem})
}

// put adds a rule that is valid by itself.
func (b *rulesBuilder) put(at token.Pos, r Rule) {
	of, is := scope{r.Resource, r.Segment}, right{r.Policy, r.Intentions}
	was, ok := b.rights[of]
	switch {
	case !ok:
		if b.rights == nil {
			b.rights = map[scope]right{}
		}
		b.rights[of] = is
	case was == is:
	case resources[r.Resource]:
		b.add(
			at,
			fmt.Sprintf(
				"%s is declared twice, with %s and with %s: Consul would apply %s, because deny takes precedence over write, write over list, and "+
					"list over read; keep one",
				r.name(),
				was,
				is,
				right{stricter(was.policy, is.policy), stricter(was.intentions, is.intentions)},
			),
		)
	default:
		b.add(
			at,
			fmt.Sprintf("%s is declared twice, as %q and as %q: Consul would apply the last one; keep one", r.name(), was.policy, is.policy),
		)
	}
}

// String describes a right to a user.
func (r right) String() string {
	if r.intentions == "" {
		return fmt.Sprintf("policy %q", r.policy)
	}
	return fmt.Sprintf("policy %q and intentions %q", r.policy, r.intentions)
}

// stricter is the one of two dispositions that takes precedence in Consul.
func stricter(a, b string) string {
	for _, p := range []string{policyDeny, policyWrite, policyList, policyRead} {
		if a == p || b == p {
			return p
		}
	}
	return ""
}

// parse returns the syntax tree of a text.
func (b *rulesBuilder) parse(text string) (*ast.ObjectList, error) {
	if b.json {
		return parseJSON(text)
	}
	// Duplicate arguments are reported later, with their values.
	file, err := hclparser.ParseDontErrorOnDuplicateKeys([]byte(text))
	var at *hclparser.PosError
	switch {
	case errors.As(err, &at):
		return nil, &RuleError{Line: at.Pos.Line, Column: at.Pos.Column, Problem: "not HCL: " + at.Err.Error()}
	case err != nil:
		return nil, &RuleError{Problem: "not HCL: " + err.Error()}
	}
	// The parser ends without an error at a value that is missing there.
	if last := lastToken(text); last.Type == token.ASSIGN {
		return nil, &RuleError{Line: last.Pos.Line, Column: last.Pos.Column, Problem: "not HCL: the text ends where a value is expected"}
	}
	list, _ := file.Node.(*ast.ObjectList)
	return list, nil
}

func lastToken(text string) token.Token {
	s := scanner.New([]byte(text))
	s.Error = func(token.Pos, string) {} // the parser has reported this
	var last token.Token
	for {
		switch t := s.Scan(); t.Type {
		case token.EOF:
			return last
		case token.COMMENT:
		default:
			last = t
		}
	}
}

// parseJSON returns the syntax tree of a JSON text, without positions. The parser of the HCL library accepts
// much that is not JSON, such as a text that is cut off.
func parseJSON(text string) (*ast.ObjectList, error) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal([]byte(text), new(any)); errors.As(err, &syntax) {
		line, column := position(text, syntax.Offset)
		return nil, &RuleError{Line: line, Column: column, Problem: "not JSON: " + syntax.Error()}
	} else if err != nil {
		return nil, &RuleError{Problem: "not JSON: " + err.Error()}
	}
	file, err := jsonparser.Parse([]byte(text))
	if err != nil {
		return nil, &RuleError{Problem: "not JSON that Consul can read: " + err.Error()}
	}
	list, _ := file.Node.(*ast.ObjectList)
	return list, nil
}

// position returns the line and the column of the last of n bytes.
func position(text string, n int64) (line, column int) {
	before := text[:max(0, min(int(n), len(text))-1)]
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:])
}

// file reads the top of the syntax tree: resources.
func (b *rulesBuilder) file(list *ast.ObjectList) {
	for _, item := range b.once(list) {
		name, err := unquoted(item.Keys[0].Token)
		resource := strings.ToLower(name) // Consul ignores the case
		if err != nil {
			b.add(item.Pos(), err.Error())
			continue
		}
		segments, err := HasSegments(resource)
		switch {
		case err != nil:
			b.add(item.Pos(), err.Error())
		case segments:
			b.segments(resource, item)
		default:
			b.single(resource, item)
		}
	}
}

// once returns the items of a list without those that set an argument ("=") for
// the second time, which Consul refuses (since 1.20.1). In JSON it takes the last.
func (b *rulesBuilder) once(list *ast.ObjectList) []*ast.ObjectItem {
	if b.json {
		return list.Items
	}
	first := map[string]token.Pos{}
	var items []*ast.ObjectItem
	for _, item := range list.Items {
		key := item.Keys[0].Token
		if !item.Assign.IsValid() {
			items = append(items, item)
		} else if at, ok := first[key.Text]; ok {
			b.add(item.Pos(), fmt.Sprintf("%s is set a second time, after line %d, column %d: keep one", key.Text, at.Line, at.Column))
		} else {
			first[key.Text] = key.Pos
			items = append(items, item)
		}
	}
	return items
}

// single reads a rule about a resource without segments: operator = "read".
func (b *rulesBuilder) single(resource string, item *ast.ObjectItem) {
	policy, ok := argument(item)
	if !ok {
		b.add(item.Pos(), fmt.Sprintf("%s has no segments and cannot have a block: write %s = \"read\"", resource, resource))
		return
	}
	b.rule(item.Pos(), Rule{Resource: resource, Policy: policy}, policy == "") // "" and null grant nothing
}

// segments reads the rules about a resource with segments, in one of the forms
//
//	key "a" { policy = "read" }
//	key = { "a" = { policy = "read" } }
func (b *rulesBuilder) segments(resource string, item *ast.ObjectItem) {
	form := fmt.Sprintf("write %s \"…\" { policy = \"read\" }", resource)
	switch val := item.Val.(type) {
	case *ast.ObjectType:
		if len(item.Keys) > 1 {
			b.block(resource, item.Keys[1:], val)
			return
		}
		for _, sub := range b.once(val.List) {
			body, ok := sub.Val.(*ast.ObjectType)
			if ok {
				b.block(resource, sub.Keys, body)
				continue
			}
			b.add(sub.Pos(), fmt.Sprintf("%s requires a segment with a block: %s", resource, form))
		}
	case *ast.ListType:
		if len(val.List) > 0 {
			b.add(item.Pos(), fmt.Sprintf("%s cannot be a list: %s", resource, form))
		}
	default:
		b.add(item.Pos(), fmt.Sprintf("%s requires a segment with a block: %s", resource, form))
	}
}

// block reads the rule about one segment.
func (b *rulesBuilder) block(resource string, keys []*ast.ObjectKey, body *ast.ObjectType) {
	at := keys[0].Pos()
	segment, err := unquoted(keys[0].Token)
	if err != nil {
		b.add(at, err.Error())
		return
	}
	r := Rule{Resource: resource, Segment: segment}
	if len(keys) > 1 {
		// The JSON parser makes one of blocks within blocks.
		next, err := unquoted(keys[1].Token)
		if err == nil {
			err = fmt.Errorf("%s has one segment, but %q follows it", r.name(), next)
		}
		if strings.EqualFold(next, "sentinel") {
			_, err = HasSegments("sentinel")
		}
		b.add(at, err.Error())
		return
	}
	before := len(b.problems)
	for _, item := range b.once(body.List) {
		b.attribute(&r, item)
	}
	if len(b.problems) == before {
		b.rule(at, r, false)
	}
}

// attribute reads one attribute of a rule's block.
func (b *rulesBuilder) attribute(r *Rule, item *ast.ObjectItem) {
	name, err := unquoted(item.Keys[0].Token)
	if err != nil {
		b.add(item.Pos(), err.Error())
		return
	}
	name = strings.ToLower(name) // Consul ignores the case
	var set *string
	legal := []string{"policy"}
	if hasIntentions(r.Resource) {
		legal = append(legal, "intentions")
	}
	switch {
	case name == "policy":
		set = &r.Policy
	case name == "intentions" && hasIntentions(r.Resource):
		set = &r.Intentions
	case name == "intentions":
		b.add(item.Pos(), r.name()+" does not support intentions, and Consul would ignore them: only service and service_prefix do")
		return
	case name == "sentinel":
		_, err := HasSegments(name)
		b.add(item.Pos(), fmt.Sprintf("%s: %v", r.name(), err))
		return
	default:
		hint := "it supports " + strings.Join(legal, " and ")
		if near := nearest(name, legal); near != "" {
			hint = "did you mean " + near + "?"
		}
		b.add(item.Pos(), fmt.Sprintf("%s: there is no attribute %s, and Consul would silently ignore it: %s", r.name(), name, hint))
		return
	}
	value, ok := argument(item)
	switch {
	case !ok:
		b.add(item.Pos(), fmt.Sprintf("%s: write %s = \"read\"", r.name(), name))
	case *set != "" && *set != value:
		b.add(item.Pos(), fmt.Sprintf("%s has the %s %q and %q: Consul would apply the last one; keep one", r.name(), name, *set, value))
	default:
		*set = value
	}
}

// rule adds a rule unless it is empty.
func (b *rulesBuilder) rule(at token.Pos, r Rule, empty bool) {
	if empty {
		return
	}
	if err := r.Validate(); err != nil {
		b.add(at, err.Error())
		return
	}
	b.put(at, r)
}

// argument returns the text that an argument is set to.
func argument(item *ast.ObjectItem) (value string, ok bool) {
	l, ok := item.Val.(*ast.LiteralType)
	if !ok || len(item.Keys) > 1 {
		return "", false
	}
	value, err := unquoted(l.Token)
	return value, err == nil
}

// unquoted returns the string of a token. The library's own Token.Value panics at
// strings that its scanner takes and that cannot be unquoted, such as "\777".
func unquoted(t token.Token) (string, error) {
	var s string
	var err error
	switch {
	case t.Type == token.HEREDOC:
		return "", &RuleError{Problem: "a rule cannot have a here document, because its text ends with a line break"}
	case t.Type != token.STRING:
		return t.Text, nil
	case t.Text == "": // null in JSON
		return "", nil
	case t.JSON:
		s, err = strconv.Unquote(t.Text)
	default:
		s, err = hclstrconv.Unquote(t.Text)
	}
	if err != nil {
		return "", &RuleError{Problem: fmt.Sprintf("Consul cannot read the string %s", t.Text)}
	}
	return s, nil
}

// nearest returns the candidate that a name was probably meant to be, or "".
func nearest(name string, candidates []string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	best, least := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the characters to insert, delete or replace to get from a to
// b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
