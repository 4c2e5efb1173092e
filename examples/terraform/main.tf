# Requires hashicorp/kubernetes 2.x, and the CustomResourceDefinition in the cluster before the first plan.
resource "kubernetes_manifest" "check" {
  manifest = {
    apiVersion = "okid.io/v1alpha1"
    kind       = "Verification"
    metadata = {
      name      = "alice"
      namespace = "default"
    }
    spec = {
      apiKeySecretRef = {
        name = "okid-api-key"
      }
    }
  }

  # Waits for the link, not for the person: an apply should not take three days.
  wait {
    condition {
      type   = "SessionCreated"
      status = "True"
    }
  }

  timeouts {
    create = "5m"
  }

  # The spec of a check that has ended cannot change, and a replacement would be another session at the portal.
  lifecycle {
    ignore_changes  = [manifest]
    prevent_destroy = true
  }
}

# Reads the verdict in a later apply.
data "kubernetes_resource" "check" {
  api_version = "okid.io/v1alpha1"
  kind        = "Verification"
  metadata {
    name      = "alice"
    namespace = "default"
  }
  depends_on = [kubernetes_manifest.check]
}

output "outcome" {
  value = try(data.kubernetes_resource.check.object.status.outcome, null)
}
