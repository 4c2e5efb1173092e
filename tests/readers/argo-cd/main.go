// Command argo-cd reads resources as lines of JSON, and writes for each a line with what Argo CD concludes from it: the health,
// the actions with what each would make of the resource, and what is compared with Git. Argo CD's own code decides, with the
// scripts of an argocd-cm and the ignoreDifferences of an Application, whose files are the two arguments.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/gitops-engine/pkg/diff"
	"github.com/argoproj/gitops-engine/pkg/health"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const kind = "okid.io_Verification"

// verdict is what Argo CD concludes from one resource.
type verdict struct {
	// Health is that of a script in argocd-cm, which may use no libraries.
	Health string `json:"health"`
	// Message is beside it.
	Message string `json:"message"`
	// BundledHealth is that of the same script if Argo CD brings it along, with all libraries.
	BundledHealth string `json:"bundledHealth"`
	// Actions are those that the user interface offers, by name.
	Actions map[string]action `json:"actions"`
	// Compared is the part of the resource that is compared with Git.
	Compared *unstructured.Unstructured `json:"compared"`
}

type action struct {
	Disabled bool `json:"disabled"`
	// Result is the resource that the action makes of the resource.
	Result *unstructured.Unstructured `json:"result"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: argo-cd ARGOCD_CM APPLICATION")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(config, application string) error {
	override, err := readOverride(config)
	if err != nil {
		return err
	}
	ignored, err := readIgnored(application)
	if err != nil {
		return err
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
		judged, err := judge(object, override, ignored)
		if err != nil {
			return fmt.Errorf("judge %s: %w", object.GetName(), err)
		}
		if err := output.Encode(judged); err != nil {
			return err
		}
	}
}

// readOverride reads the scripts of a ConfigMap argocd-cm.
func readOverride(path string) (*v1alpha1.ResourceOverride, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	override := &v1alpha1.ResourceOverride{
		HealthLua: config.Data["resource.customizations.health."+kind],
		Actions:   config.Data["resource.customizations.actions."+kind],
	}
	if override.HealthLua == "" || override.Actions == "" {
		return nil, fmt.Errorf("%s lacks a health script or actions of %s", path, kind)
	}
	return override, nil
}

// readIgnored reads the ignoreDifferences of an Application.
func readIgnored(path string) (diff.Normalizer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var application v1alpha1.Application
	if err := yaml.UnmarshalStrict(text, &application); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	ignored := application.Spec.IgnoreDifferences
	return normalizers.NewIgnoreNormalizer(ignored, nil, normalizers.IgnoreNormalizerOpts{})
}

func overrides(override *v1alpha1.ResourceOverride, openLibraries bool) map[string]v1alpha1.ResourceOverride {
	with := *override
	with.UseOpenLibs = openLibraries
	return map[string]v1alpha1.ResourceOverride{"okid.io/Verification": with}
}

func judge(
	object *unstructured.Unstructured,
	override *v1alpha1.ResourceOverride,
	ignored diff.Normalizer,
) (*verdict, error) {
	closed, err := health.GetResourceHealth(object, lua.ResourceHealthOverrides(overrides(override, false)))
	if err != nil {
		return nil, err
	}
	open, err := health.GetResourceHealth(object, lua.ResourceHealthOverrides(overrides(override, true)))
	if err != nil {
		return nil, err
	}
	actions, err := perform(object, override)
	if err != nil {
		return nil, err
	}
	compared := object.DeepCopy()
	if err := ignored.Normalize(compared); err != nil {
		return nil, err
	}
	return &verdict{
		Health:        string(closed.Status),
		Message:       closed.Message,
		BundledHealth: string(open.Status),
		Actions:       actions,
		Compared:      compared,
	}, nil
}

func perform(object *unstructured.Unstructured, override *v1alpha1.ResourceOverride) (map[string]action, error) {
	vm := lua.VM{ResourceOverrides: overrides(override, false)}
	discovery, err := vm.GetResourceActionDiscovery(object)
	if err != nil {
		return nil, err
	}
	offered, err := vm.ExecuteResourceActionDiscovery(object, discovery)
	if err != nil {
		return nil, err
	}
	actions := map[string]action{}
	for _, offer := range offered {
		definition, err := vm.GetResourceAction(object, offer.Name)
		if err != nil {
			return nil, err
		}
		impacted, err := vm.ExecuteResourceAction(object, definition.ActionLua, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", offer.Name, err)
		}
		if len(impacted) != 1 {
			return nil, fmt.Errorf("%s changes %d resources", offer.Name, len(impacted))
		}
		actions[offer.Name] = action{Disabled: offer.Disabled, Result: impacted[0].UnstructuredObj}
	}
	return actions, nil
}
