// Command conventions reads resources as lines of JSON, and writes for each a line with what clients conclude from it that
// wait for every kind of resource alike: kstatus, Flux and kubectl. Their own code decides.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	fluxstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/fluxcd/pkg/runtime/conditions"
	"github.com/fluxcd/pkg/runtime/conditions/check"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"
	"k8s.io/kubectl/pkg/cmd/wait"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

// verdict is what the clients conclude from one resource.
type verdict struct {
	// Kstatus is the result of sigs.k8s.io/cli-utils, which Helm and kpt use.
	Kstatus string `json:"kstatus"`
	// Flux is the result of Flux's copy of kstatus.
	Flux string `json:"flux"`
	// FluxFailures are violations of the conventions that Flux demands of controllers.
	FluxFailures []string `json:"fluxFailures"`
	// FluxWarnings are deviations from them that Flux tolerates.
	FluxWarnings []string `json:"fluxWarnings"`
	// FluxExpressions is the result of the healthCheckExprs, where there are some.
	FluxExpressions string `json:"fluxExpressions,omitempty"`
	// Query is the result of the CEL query, where there is one.
	Query bool `json:"query"`
	// Kubectl has for each argument of `kubectl wait --for` whether the command would end at once.
	Kubectl map[string]bool `json:"kubectl"`
}

// waits is a list of arguments for `kubectl wait --for`.
type waits []string

func (w *waits) String() string { return strings.Join(*w, ", ") }

func (w *waits) Set(value string) error {
	*w = append(*w, value)
	return nil
}

func main() {
	var waitFor waits
	flag.Var(&waitFor, "for", "an argument of `kubectl wait --for`; repeatable")
	expressions := flag.String("health-check-exprs", "", "a file with a Kustomization that has healthCheckExprs")
	query := flag.String("query", "", "a CEL expression about `object`")
	flag.Parse()
	if err := run(waitFor, *expressions, *query); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(waitFor waits, expressions, query string) error {
	by := rules{waitFor: waitFor}
	var err error
	if expressions != "" {
		if by.expressions, err = readExpressions(expressions); err != nil {
			return err
		}
	}
	if query != "" {
		if by.query, err = cel.NewExpression(query); err != nil {
			return err
		}
	}
	output := json.NewEncoder(os.Stdout)
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(line); err != nil {
			return fmt.Errorf("read a resource: %w", err)
		}
		judged, err := judge(object, by)
		if err != nil {
			return fmt.Errorf("judge %s: %w", object.GetName(), err)
		}
		if err := output.Encode(judged); err != nil {
			return err
		}
	}
}

func readExpressions(path string) (*cel.StatusEvaluator, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, err
	}
	for _, check := range kustomization.Spec.HealthCheckExprs {
		if check.Kind == "Verification" {
			return cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		}
	}
	return nil, fmt.Errorf("%s has no healthCheckExprs for a Verification", path)
}

// rules are those that the caller gives.
type rules struct {
	waitFor     waits
	expressions *cel.StatusEvaluator
	query       *cel.Expression
}

func judge(object *unstructured.Unstructured, by rules) (*verdict, error) {
	ctx := context.Background()
	upstream, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	flux, err := fluxstatus.Compute(object)
	if err != nil {
		return nil, err
	}
	judged := &verdict{Kstatus: upstream.Status.String(), Flux: flux.Status.String(), Kubectl: map[string]bool{}}
	judged.FluxFailures, judged.FluxWarnings = conformance(ctx, object)
	if by.expressions != nil {
		result, err := by.expressions.Evaluate(ctx, object)
		if err != nil {
			return nil, err
		}
		judged.FluxExpressions = result.Status.String()
	}
	if by.query != nil {
		about := map[string]any{"object": object.Object}
		if judged.Query, err = by.query.EvaluateBoolean(ctx, about); err != nil {
			return nil, err
		}
	}
	for _, argument := range by.waitFor {
		met, err := wouldEnd(ctx, object, argument)
		if err != nil {
			return nil, err
		}
		judged.Kubectl[argument] = met
	}
	return judged, nil
}

func conformance(ctx context.Context, object *unstructured.Unstructured) (failures, warnings []string) {
	checker := check.NewChecker(nil, &check.Conditions{NegativePolarity: []string{"Stalled", "Reconciling"}})
	checker.DisableFetch = true
	fail, warn := checker.Check(ctx, conditions.UnstructuredGetter(object))
	return causes(fail), causes(warn)
}

// causes are the single errors of an aggregate.
func causes(err error) []string {
	texts := []string{}
	var aggregate interface{ Errors() []error }
	if errors.As(err, &aggregate) {
		for _, cause := range aggregate.Errors() {
			texts = append(texts, cause.Error())
		}
	} else if err != nil {
		texts = append(texts, err.Error())
	}
	return texts
}

// wouldEnd says whether `kubectl wait --for ARGUMENT --timeout 0` would succeed.
func wouldEnd(ctx context.Context, object *unstructured.Unstructured, argument string) (bool, error) {
	address := "http://127.0.0.1:1"
	config := genericclioptions.NewConfigFlags(false)
	config.APIServer = &address
	flags := wait.NewWaitFlags(config, genericiooptions.NewTestIOStreamsDiscard())
	flags.ForCondition = []string{argument}
	options, err := flags.ToOptions(nil)
	if err != nil {
		return false, err
	}
	options.Timeout = 0
	options.DynamicClient = oneObject{object: object}
	info := &resource.Info{
		Name:      object.GetName(),
		Namespace: object.GetNamespace(),
		Object:    object,
		Mapping:   &meta.RESTMapping{Resource: schema.GroupVersionResource{Resource: "verifications"}},
	}
	_, met, err := options.ConditionFn[0](ctx, info, options)
	if err != nil && !strings.Contains(err.Error(), "condition not met") {
		return false, err
	}
	return met, nil
}

// oneObject is a client that finds one object, whatever it is asked for.
type oneObject struct {
	dynamic.Interface
	dynamic.NamespaceableResourceInterface
	object *unstructured.Unstructured
}

func (o oneObject) Resource(schema.GroupVersionResource) dynamic.NamespaceableResourceInterface { return o }

func (o oneObject) Namespace(string) dynamic.ResourceInterface { return o }

func (o oneObject) Get(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error) {
	return o.object.DeepCopy(), nil
}
