"""The Flex Template of Dataflow: a build that is started without this package installed."""
