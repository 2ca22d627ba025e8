package lifecycle

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// Each operation has a case for every kind of phase that its lists can contain, and no other. The linter exhaustive cannot see this,
// because no operation has all kinds.
func TestDo_everyKindOfPhase(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	inspect(t, "../rollout/*.go", func(n ast.Node) {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return
		}
		if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Kind" {
			return
		}
		for _, name := range v.Names {
			if name.IsExported() {
				kinds[name.Name] = true
			}
		}
	})
	listed := map[string]bool{}
	for receiver, lists := range map[string][]string{
		"operation":        {"Phases", "stagePhases"},
		"deleteOperation":  {"DeletePhases", "FinalPhases"},
		"restoreOperation": {"RestorePhases"},
	} {
		want, cases := map[string]bool{}, map[string]bool{}
		inspect(t, "../rollout/*.go", func(n ast.Node) {
			if f, ok := n.(*ast.FuncDecl); ok && slices.Contains(lists, f.Name.Name) {
				names(f, func(name string) { want[name] = kinds[name] })
			}
		})
		inspect(t, "*.go", func(n ast.Node) {
			f, ok := n.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Do" || !isMethodOf(f, receiver) {
				return
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if c, ok := n.(*ast.CaseClause); ok {
					for _, e := range c.List {
						names(e, func(name string) { cases[name] = kinds[name] })
					}
				}
				return true
			})
		})
		for k := range kinds {
			switch {
			case want[k] && !cases[k]:
				t.Errorf("%s.Do has no case for rollout.%s", receiver, k)
			case cases[k] && !want[k]:
				t.Errorf("%s.Do has a case for rollout.%s, which is not in %q", receiver, k, lists)
			}
			listed[k] = listed[k] || want[k]
		}
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		if !listed[k] {
			t.Errorf("no list of phases has rollout.%s", k)
		}
	}
	if len(kinds) == 0 {
		t.Error("found no kinds")
	}
}

// names calls f for every name in a part of a program.
func names(n ast.Node, f func(string)) {
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			f(id.Name)
		}
		return true
	})
}

// isMethodOf reports whether a function is a method of the pointer to a type.
func isMethodOf(f *ast.FuncDecl, receiver string) bool {
	if f.Recv == nil {
		return false
	}
	star, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	typ, ok := star.X.(*ast.Ident)
	return ok && typ.Name == receiver
}

// inspect calls f for everything in the files of a pattern.
func inspect(t *testing.T, pattern string, f func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool { f(n); return true })
	}
}
