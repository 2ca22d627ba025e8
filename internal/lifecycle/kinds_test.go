package lifecycle

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Every kind of phase has an operation that carries it out. The linter exhaustive cannot see this, because no operation has all kinds.
func TestDo_everyKindOfPhase(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{}
	inspect(t, "*.go", func(n ast.Node) {
		if c, ok := n.(*ast.CaseClause); ok {
			for _, e := range c.List {
				if s, ok := e.(*ast.SelectorExpr); ok {
					cases[s.Sel.Name] = true
				}
			}
		}
	})
	kinds := 0
	inspect(t, "../rollout/*.go", func(n ast.Node) {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return
		}
		if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Kind" {
			return
		}
		for _, name := range v.Names {
			if kinds++; name.IsExported() && !cases[name.Name] {
				t.Errorf("no operation has a case for rollout.%s", name.Name)
			}
		}
	})
	if kinds == 0 {
		t.Error("found no kinds")
	}
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
