"""Settings that are each allowed and do not fit together: of a study, of its rules, of a site."""
